//! `datetime.strftime` in the C locale, for `strftime_now` in templates. UTC, seconds.

use std::fmt::Write;

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

struct Moment {
    unix: i64,
    year: i64,
    month: i64,
    day: i64,
    /// 0 is the first of January.
    day_of_year: i64,
    /// 0 is Sunday.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

impl Moment {
    /// Days to date after Howard Hinnant's `civil_from_days` (years that begin in March).
    fn from_unix(unix: i64) -> Self {
        let days = unix.div_euclid(86_400);
        let seconds = unix.rem_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_from_march + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let day_of_year = if month > 2 {
            day_from_march + 59 + i64::from(is_leap(year))
        } else {
            day_from_march - 306
        };
        Self {
            unix,
            year,
            month,
            day: day_from_march - (153 * month_from_march + 2) / 5 + 1,
            day_of_year,
            weekday: (days + 4).rem_euclid(7),
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }

    /// Year and week of ISO 8601: weeks begin on Monday, week 1 holds the first Thursday.
    fn iso_week(&self) -> (i64, i64) {
        let weekday = (self.weekday + 6) % 7;
        let week = (self.day_of_year - weekday + 10) / 7;
        if week < 1 {
            let previous = self.year - 1;
            let day_of_year = self.day_of_year + 365 + i64::from(is_leap(previous));
            return (previous, (day_of_year - weekday + 10) / 7);
        }
        let thursday = self.day_of_year - weekday + 3;
        if thursday >= 365 + i64::from(is_leap(self.year)) {
            return (self.year + 1, 1);
        }
        (self.year, week)
    }

    fn hour12(&self) -> i64 {
        (self.hour + 11) % 12 + 1
    }
}

/// glibc's modifiers of one directive.
#[derive(Clone, Copy, Default)]
struct Flags {
    /// `-` no padding, `_` spaces, `0` zeros.
    padding: Option<char>,
    upper: bool,
}

fn number(out: &mut String, flags: Flags, value: i64, width: usize, padding: char) {
    let _ = match flags.padding.unwrap_or(padding) {
        '-' => write!(out, "{value}"),
        '_' | ' ' => write!(out, "{value:width$}"),
        _ => write!(out, "{value:0width$}"),
    };
}

fn name(out: &mut String, flags: Flags, text: &str) {
    if flags.upper {
        out.push_str(&text.to_uppercase());
    } else {
        out.push_str(text);
    }
}

/// Whether `code` is a directive; writes what it stands for.
fn directive(out: &mut String, moment: &Moment, flags: Flags, code: char) -> bool {
    let month = MONTHS[moment.month as usize - 1];
    let day = DAYS[moment.weekday as usize];
    let mut group = |format: &str| out.push_str(&format_moment(moment, format));
    match code {
        'c' => group("%a %b %e %H:%M:%S %Y"),
        'D' | 'x' => group("%m/%d/%y"),
        'F' => group("%Y-%m-%d"),
        'R' => group("%H:%M"),
        'r' => group("%I:%M:%S %p"),
        'T' | 'X' => group("%H:%M:%S"),
        'a' => name(out, flags, &day[..3]),
        'A' => name(out, flags, day),
        'b' | 'h' => name(out, flags, &month[..3]),
        'B' => name(out, flags, month),
        'p' => out.push_str(if moment.hour < 12 { "AM" } else { "PM" }),
        'P' => out.push_str(if moment.hour < 12 { "am" } else { "pm" }),
        'C' => number(out, flags, moment.year.div_euclid(100), 2, '0'),
        'd' => number(out, flags, moment.day, 2, '0'),
        'e' => number(out, flags, moment.day, 2, ' '),
        'f' => out.push_str("000000"),
        'g' => number(out, flags, moment.iso_week().0.rem_euclid(100), 2, '0'),
        'G' => number(out, flags, moment.iso_week().0, 4, '0'),
        'H' => number(out, flags, moment.hour, 2, '0'),
        'I' => number(out, flags, moment.hour12(), 2, '0'),
        'j' => number(out, flags, moment.day_of_year + 1, 3, '0'),
        'k' => number(out, flags, moment.hour, 2, ' '),
        'l' => number(out, flags, moment.hour12(), 2, ' '),
        'm' => number(out, flags, moment.month, 2, '0'),
        'M' => number(out, flags, moment.minute, 2, '0'),
        's' => number(out, flags, moment.unix, 1, '0'),
        'S' => number(out, flags, moment.second, 2, '0'),
        'u' => number(out, flags, (moment.weekday + 6) % 7 + 1, 1, '0'),
        'U' => number(out, flags, (moment.day_of_year + 7 - moment.weekday) / 7, 2, '0'),
        'V' => number(out, flags, moment.iso_week().1, 2, '0'),
        'w' => number(out, flags, moment.weekday, 1, '0'),
        'W' => {
            let monday_based = (moment.weekday + 6) % 7;
            number(out, flags, (moment.day_of_year + 7 - monday_based) / 7, 2, '0');
        }
        'y' => number(out, flags, moment.year.rem_euclid(100), 2, '0'),
        'Y' => number(out, flags, moment.year, 1, '0'),
        // A datetime without a zone, which is what transformers formats, has neither.
        'z' | 'Z' => {}
        'n' => out.push('\n'),
        't' => out.push('\t'),
        '%' => out.push('%'),
        _ => return false,
    }
    true
}

fn format_moment(moment: &Moment, format: &str) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let spec = &rest[at + 1..];
        let mut flags = Flags::default();
        let mut chars = spec.chars();
        let mut code = chars.next();
        while let Some(flag @ ('-' | '_' | '0' | '^')) = code {
            if flag == '^' {
                flags.upper = true;
            } else {
                flags.padding = Some(flag);
            }
            code = chars.next();
        }
        if code.is_some_and(|code| directive(&mut out, moment, flags, code)) {
            rest = chars.as_str();
        } else {
            out.push('%');
            rest = spec;
        }
    }
    out.push_str(rest);
    out
}

/// `unix` in seconds, written as `format` says; what is no directive stays as it is.
pub fn strftime(unix: i64, format: &str) -> String {
    format_moment(&Moment::from_unix(unix), format)
}

#[cfg(test)]
mod tests {
    use super::strftime;

    #[test]
    fn dates_at_the_edges_of_years() {
        for (unix, expected) in [
            (0, "1970-01-01 Thu 001 00 1970-W01-4"),
            (951_782_400, "2000-02-29 Tue 060 09 2000-W09-2"),
            (1_609_459_199, "2020-12-31 Thu 366 52 2020-W53-4"),
            (1_609_459_200, "2021-01-01 Fri 001 00 2020-W53-5"),
            (1_735_603_200, "2024-12-31 Tue 366 53 2025-W01-2"),
            (-1, "1969-12-31 Wed 365 52 1970-W01-3"),
        ] {
            assert_eq!(strftime(unix, "%F %a %j %W %G-W%V-%u"), expected);
        }
    }

    #[test]
    fn flags_and_unknown_directives() {
        assert_eq!(
            strftime(97_445, "%-d|%_d|%e|%^b|%I:%M %p|%%|%Q|%"),
            "2| 2| 2|JAN|03:04 AM|%|%Q|%"
        );
    }
}
