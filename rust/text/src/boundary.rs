//! The types that cross the C boundary and the guard that every call runs in.

use crate::error::{Error, Kind, Result};
use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Borrowed bytes, `mlxs_text_view`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct View {
    data: *const u8,
    size: usize,
}

impl View {
    pub fn of(bytes: &[u8]) -> Self {
        Self { data: bytes.as_ptr(), size: bytes.len() }
    }

    /// # Safety
    /// `data` points to `size` readable bytes that outlive the result, or `size` is 0.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        slice(self.data, self.size)
    }

    /// The bytes as text; `what` names them in the error.
    ///
    /// # Safety
    /// As `bytes`.
    pub unsafe fn text<'a>(self, what: &str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes())
            .map_err(|e| Error::invalid(format!("{what} is not valid UTF-8: {e}")))
    }
}

/// A slice from C, where an empty one may come as a null pointer.
///
/// # Safety
/// `data` points to `size` readable values that outlive the result, or `size` is 0.
pub unsafe fn slice<'a, T>(data: *const T, size: usize) -> &'a [T] {
    if size == 0 {
        &[]
    } else {
        std::slice::from_raw_parts(data, size)
    }
}

/// Bytes owned by the caller until `mlxs_text_string_free`, `mlxs_text_string`.
#[repr(C)]
pub struct OwnedString {
    data: *mut u8,
    size: usize,
}

impl OwnedString {
    pub const EMPTY: Self = Self { data: std::ptr::null_mut(), size: 0 };

    /// # Safety
    /// The value came from `From<String>` and has not been released before.
    pub unsafe fn release(self) {
        if !self.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.data, self.size)));
        }
    }
}

impl From<String> for OwnedString {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<Vec<u8>> for OwnedString {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            return Self::EMPTY;
        }
        let bytes = Box::leak(bytes.into_boxed_slice());
        Self { data: bytes.as_mut_ptr(), size: bytes.len() }
    }
}

/// Token ids owned by the caller until `mlxs_text_ids_free`, `mlxs_text_ids`.
#[repr(C)]
pub struct OwnedIds {
    data: *mut u32,
    size: usize,
}

impl OwnedIds {
    /// # Safety
    /// The value came from `From<&[u32]>` and has not been released before.
    pub unsafe fn release(self) {
        if !self.data.is_null() {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.data, self.size)));
        }
    }
}

impl From<&[u32]> for OwnedIds {
    fn from(ids: &[u32]) -> Self {
        if ids.is_empty() {
            return Self { data: std::ptr::null_mut(), size: 0 };
        }
        let ids = Box::leak(ids.to_vec().into_boxed_slice());
        Self { data: ids.as_mut_ptr(), size: ids.len() }
    }
}

/// `mlxs_text_error`; kind 0 means none.
#[repr(C)]
pub struct OwnedError {
    kind: u32,
    message: OwnedString,
}

fn panic_words(payload: &(dyn Any + Send)) -> String {
    let words = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("the text library panicked: {words}")
}

/// Runs `body`; a failure or a panic goes to `error`. Returns whether it succeeded.
///
/// # Safety
/// `error` is valid for writes.
pub unsafe fn guard(error: *mut OwnedError, body: impl FnOnce() -> Result<()>) -> bool {
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(payload) => {
            let failure = Error { kind: Kind::Internal, message: panic_words(&*payload) };
            // A payload may panic again when it is dropped, and this is the last frame before C.
            std::mem::forget(payload);
            Some(failure)
        }
    };
    let succeeded = failure.is_none();
    error.write(match failure {
        None => OwnedError { kind: 0, message: OwnedString::EMPTY },
        Some(failure) => OwnedError { kind: failure.kind as u32, message: failure.message.into() },
    });
    succeeded
}

/// Drops what `free` takes over. A panic in a destructor is swallowed: nobody could act on it.
pub fn guard_free(free: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(free)) {
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What C sees: success, kind and message.
    fn run(body: impl FnOnce() -> Result<()>) -> (bool, u32, String) {
        let mut error = OwnedError { kind: 99, message: OwnedString::EMPTY };
        let succeeded = unsafe { guard(&mut error, body) };
        let message = unsafe { slice(error.message.data, error.message.size) };
        let message = String::from_utf8(message.to_vec()).unwrap();
        unsafe { error.message.release() };
        (succeeded, error.kind, message)
    }

    #[test]
    fn success_leaves_no_error() {
        assert_eq!(run(|| Ok(())), (true, 0, String::new()));
    }

    #[test]
    fn errors_come_out_with_kind_and_words() {
        assert_eq!(run(|| Err(Error::invalid("no"))), (false, 1, "no".to_owned()));
        assert_eq!(run(|| Err(Error::corrupt("bad"))), (false, 2, "bad".to_owned()));
    }

    #[test]
    fn panics_become_errors() {
        let index = std::hint::black_box(7);
        let text = run(|| panic!("at {index}"));
        let bounds = run(|| Err(Error::invalid([""; 3][index])));

        assert_eq!(text, (false, 3, "the text library panicked: at 7".to_owned()));
        assert_eq!(bounds.1, 3);
        assert!(bounds.2.contains("index out of bounds"), "{}", bounds.2);
    }

    #[test]
    fn a_panic_that_panics_again_when_dropped_stops_too() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }

        let (succeeded, kind, message) = run(|| std::panic::panic_any(Bomb));

        assert_eq!((succeeded, kind), (false, 3));
        assert!(message.contains("no message"));
    }

    #[test]
    fn destructors_may_panic() {
        guard_free(|| panic!("in a destructor"));
    }
}
