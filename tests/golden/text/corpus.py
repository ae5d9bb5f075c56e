"""The strings that tokenizers are compared on. Deterministic: the same list on every run."""

import random

WORDS = """The quick brown fox jumps over the lazy dog. What is the capital of France? Paris.
It's what we'd've expected, isn't it? I'LL SAY; THEY'RE HERE, YOU'VE WON, HE'D GO, I'M IN, 'S 'T.
Tokenizers split text into pieces that occur often enough to deserve a name of their own.
A server answers requests; a client sends them; a gateway stands between both and counts.""".split("\n")

CODE = [
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)\n",
    "#include <vector>\nint main() {\n\tstd::vector<int> v{1, 2, 3};\n\treturn v.empty() ? 1 : 0;\n}\n",
    "fn main() {\r\n    let x: Vec<u8> = vec![0x1f; 10];\r\n    println!(\"{x:?}\");\r\n}\r\n",
    "const f = async ({a, b: [c, ...d]}) => `${a} ${await c?.(d) ?? 'none'}`;",
    "SELECT COUNT(*) AS n, AVG(price)::NUMERIC(10,2) FROM orders WHERE id IN (1,2,3) AND name LIKE '%x_';",
    "<div class=\"a b\" onclick='go(1)'>&nbsp;&amp;<!-- note --></div>",
    '{"key": [1, 2.5e-10, true, null, "a\\u00e9\\n"], "nested": {"": {}}}',
    "\\begin{equation}\n  e^{i\\pi} + 1 = 0 % Euler\n\\end{equation}",
    "if [[ -n \"$x\" ]]; then echo \"${x//a/b}\" | sed -e 's/[^0-9]*//g' >> /dev/null 2>&1; fi",
    "package main\n\nimport \"fmt\"\n\nfunc main() { for i := 0; i < 10; i++ { fmt.Println(i<<2 | ^i) } }",
    "x = lambda *a, **k: (a[::-1], {**k})  # why?\n\n\n\nclass A(B): ...\n",
    "0xDEADBEEF + 0b1010 - 0o777 * 1_000_000 / 3.14e-15 % 2 ** 10 // 7",
]

SCRIPTS = [
    "Die Größe der Bäume überrascht; ß ẞ Äpfel.", "L'été à la plage, c'est génial, n'est-ce pas ?",
    "¿Dónde está el niño? ¡Aquí!", "Zażółć gęślą jaźń", "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "Съешь ещё этих мягких французских булок, да выпей чаю", "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία",
    "我能吞下玻璃而不伤身体。", "私はガラスを食べられます。それは私を傷つけません。ｶﾀｶﾅ ＡＢＣ１２３",
    "나는 유리를 먹을 수 있어요. 그래도 아프지 않아요", "Tôi có thể ăn thủy tinh mà không hại gì.",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني. ١٢٣٤٥", "אני יכול לאכול זכוכית וזה לא מזיק לי׃",
    "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ ๑๒๓", "मैं काँच खा सकता हूँ, मुझे उस से कोई पीडा नहीं होती. १२३",
    "আমি কাঁচ খেতে পারি", "நான் கண்ணாடி சாப்பிடுவேன்", "მინას ვჭამ და არა მტკივა", "Ես կրնամ ապակի ուտել",
    "ቢ ሆን ይህ ነገር", "ᚠᛇᚻ᛫ᛒᛦᚦ᛫ᚠᚱᚩᚠᚢᚱ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 𐍈𐌰 𠜎𠜱", "e\u0301 vs \u00e9, A\u030a vs \u00c5, \u1100\u1161\u11a8 vs \uac01",
    "ﬁ ﬂ ½ ² ₃ Ⅷ ① ㎏ ™ № ℃ ſ K Å", "Straße STRASSE ŞIRKET ı İ ǅ",
]

EMOJI = [
    "😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇩🇪", "👩🏾‍🚀 goes 🚀🌕!", "❤️ vs ❤", "1️⃣2️⃣", "a😀b😀😀c", "🧑‍🤝‍🧑", "\U0001faf1\U0001f3fb\u200d\U0001faf2\U0001f3ff",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
]

CONTROL = [
    "", " ", "  ", "   ", "\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", "\t", "\t\t", " \t ", " \n ", "\n ", "\n  ", "  \n",
    "\x00", "a\x00b", "\x01\x02\x03", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x85\xa0", "\u200b", "\u200e\u200f", "\u2028\u2029", "\ufeff", "\ufffd", "\ufffe",
    "\u00ad", "\u3000全角\u3000", "\u202e drow", "a\u00a0b", " a", "a ", " a ", "  a", "a  ", "  a  b   c    d", "a\n\n b\n\n\n  c",
    " " * 17, " " * 100, "\n" * 30, "\t" * 20, " \n" * 12, "x" + " " * 40 + "y", "=" * 80, "-" * 33, "." * 50, "a" * 300, "ab" * 100, "é" * 40, "字" * 40,
    "\u0300\u0301", "a\u0300\u0301\u0302\u0303", "\U0010ffff", "\U0001f600" * 12,
]

DIGITS = [
    "0", "1", "12", "123", "1234", "12345", "1234567890", "3.14159265358979", "1,000,000.00", "-42", "+7", "1e10", "2026-11-23T18:55:00Z", "192.168.0.1",
    "007", "1/2", "100%", "$5.99", "№5", "٠١٢٣٤٥٦٧٨٩", "０１２３", "x1y22z333", "v1.2.3-rc4", "1st 2nd 3rd 4th", "Ⅻ ⅻ", "²³¹", "5 6 78  9", "12 345 678",
]

SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "a<|im_end|>b", " <|im_end|> ", "<|im_end|><|im_end|>",
    "<|im_start|", "|im_start|>", "<|IM_START|>", "< |im_start|>", "<repo_name>x<file_sep>y", "<gh_stars>10", "<jupyter_start>code<jupyter_output>", "<empty_output>", "<|im_start|><|im_start|>\n",
    "\n<|im_end|>\n", "<s>", "</s>", "[INST] x [/INST]", "<unk>", "[UNK] [CLS]", "<|eot_id|>", "<think>x</think>", "<tool_call>{}</tool_call>", "<0x0A>", "▁a▁b", "Ġa", "##ing",
]

PUNCTUATION = [
    "...", "?!", "!!!", "—–-", "«»„“”‘’", "(((a)))", "[{<>}]", "a.b.c", "a,b;c:d", "#hashtag @user", "http://a.b/c?d=e&f=g#h", "user@example.com", "C:\\dir\\file.txt", "/usr/local/bin", "a_b-c+d=e*f/g",
    "'''", '"""', "```py\n```", "&&||", "~`^", "it's", "It's", "IT'S", "'s", " 's", "it 's", "don't", "I'M", "we'LL", "x'y'z", "rock 'n' roll", "it’s", "d'accord", "'ſ", "'RE", "a'ſb",
    "hello,world", "hello , world", "hello .world", "a  ,  b", "、。！？", "。a，b", "« a »", "…", "•◦‣", "→←↑↓⇒", "∀x∈ℝ: x²≥0", "≤≥≠±×÷√∞", "€£¥₹₿", "©®", "†‡§¶",
]


def mixed(count, seed):
    """Random mixtures, so that boundaries between everything occur."""
    rng = random.Random(seed)
    parts = WORDS + CODE + SCRIPTS + EMOJI + CONTROL + DIGITS + SPECIAL + PUNCTUATION
    out = []
    for _ in range(count):
        pieces = []
        for _ in range(rng.randint(2, 6)):
            part = rng.choice(parts)
            begin = rng.randint(0, max(0, len(part) - 1))
            pieces.append(part[begin:begin + rng.randint(1, 24)])
        out.append(rng.choice(["", " ", "\n", "'"]).join(pieces))
    return out


def texts():
    words = [w for line in WORDS for w in line.split()]
    return WORDS + CODE + SCRIPTS + EMOJI + CONTROL + DIGITS + SPECIAL + PUNCTUATION + words[:40] + mixed(100, 3)
