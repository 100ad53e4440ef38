//! Decimal numbers from text, exactly rounded and fast.
//!
//! A decimal with at most 2^53 as its digits and a power of ten between -22 and 22 is one exactly rounded division or
//! multiplication of two exact doubles (Clinger, "How to read floating point numbers accurately", 1990, fast path).
//! Nearly all numbers in data files are of that kind; everything else goes through `str::parse`.

/// 10^0 ..= 10^22, all of them exact doubles.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Whether `byte` ends a number: blank, end of line or the start of a comment.
pub fn is_delimiter(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'#')
}

/// Reads the number at the start of `text`, up to a delimiter or the end.
///
/// Returns the value, rounded as `str::parse` rounds it (so it may be infinite or NaN if the text says so or is too
/// large), and how many bytes it took. `None` if what stands there is no number.
pub fn scan_f64(text: &[u8]) -> Option<(f64, usize)> {
    scan_fast(text).or_else(|| {
        let end = text.iter().position(|&b| is_delimiter(b)).unwrap_or(text.len());
        let value = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
        Some((value, end))
    })
}

/// 10^0 ..= 10^8.
const SMALL_POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Takes the digits at `at`, appending them to `mantissa` (modulo 2^64: the caller counts the digits), and returns
/// where they end. Eight bytes at a time, so that the number of digits is no branch to be mispredicted.
pub(crate) fn digits(text: &[u8], mut at: usize, mantissa: &mut u64) -> usize {
    while let Some(word) = text.get(at..).and_then(<[u8]>::first_chunk) {
        let (count, value) = leading_digits(u64::from_le_bytes(*word));
        *mantissa = mantissa.wrapping_mul(SMALL_POWERS[count]).wrapping_add(value);
        at += count;
        if count < 8 {
            return at;
        }
    }
    while let Some(digit) = text.get(at).map(|b| b.wrapping_sub(b'0')).filter(|&d| d < 10) {
        *mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    at
}

/// How many of eight characters (the first in the lowest byte) are digits before another comes, and their value.
fn leading_digits(word: u64) -> (usize, u64) {
    // Digits become 0 to 9. Then the top bit of a byte says "no digit"; a carry can only spoil bytes behind the
    // first of those.
    let word = word ^ 0x3030_3030_3030_3030;
    let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() as usize / 8;
    // Zeros before the digits make eight of them; shifted twice because a shift by 64 is none.
    let eight = word << (32 - 4 * count) << (32 - 4 * count);
    let pairs = eight.wrapping_mul(10).wrapping_add(eight >> 8);
    let low = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(1_000_000 << 32 | 100);
    let high = (pairs >> 16 & 0x0000_00ff_0000_00ff).wrapping_mul(10_000 << 32 | 1);
    (count, low.wrapping_add(high) >> 32)
}

fn scan_fast(text: &[u8]) -> Option<(f64, usize)> {
    let negative = text.first() == Some(&b'-');
    let start = usize::from(negative || text.first() == Some(&b'+'));
    let mut mantissa = 0u64;
    let mut at = digits(text, start, &mut mantissa);
    let mut digit_count = at - start;
    let mut power = 0i64;
    if text.get(at) == Some(&b'.') {
        let end = digits(text, at + 1, &mut mantissa);
        power = -((end - at - 1) as i64);
        digit_count += end - at - 1;
        at = end;
    }
    if digit_count == 0 || digit_count > 19 {
        return None;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let minus = text.get(at + 1) == Some(&b'-');
        let first = at + 1 + usize::from(minus || text.get(at + 1) == Some(&b'+'));
        let mut exponent = 0;
        let end = digits(text, first, &mut exponent);
        if end == first || end - first > 4 {
            return None;
        }
        power += if minus { -(exponent as i64) } else { exponent as i64 };
        at = end;
    }
    let ends = text.get(at).is_none_or(|&b| is_delimiter(b));
    if !ends || mantissa > 1 << 53 {
        return None;
    }
    let scale = *POWERS.get(power.unsigned_abs() as usize)?;
    let value = if power < 0 { mantissa as f64 / scale } else { mantissa as f64 * scale };
    Some((if negative { -value } else { value }, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agrees(text: &str) {
        let want: Option<f64> = text.parse().ok();
        let got = scan_f64(text.as_bytes());
        assert_eq!(got.map(|(v, n)| (v.to_bits(), n)), want.map(|v| (v.to_bits(), text.len())), "{text:?}");
    }

    #[test]
    fn particular_numbers_are_read_as_the_standard_library_reads_them() {
        for text in [
            "0",
            "-0",
            "+0",
            "1",
            "+1",
            "-1",
            "1.",
            ".5",
            "-.5",
            "1e5",
            "1E-5",
            "1e+22",
            "1e23",
            "9007199254740992",
            "9007199254740993",
            "9007199254740993e1",
            "0.1278",
            "123456789012345678901234567890",
            "1e-400",
            "1e400",
            "5e-324",
            "00000000000000000000001",
            "1.7976931348623157e308",
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1e+",
            "1.2.3",
            "--1",
            "0x10",
            "1_0",
            "12a",
            "inf",
            "-infinity",
            "1e99999",
            "1e-99999",
        ] {
            agrees(text);
        }
        assert!(scan_f64(b"nan").is_some_and(|(v, _)| v.is_nan()));
    }

    #[test]
    fn a_number_ends_at_a_delimiter() {
        assert_eq!(scan_f64(b"2.5 7"), Some((2.5, 3)));
        assert_eq!(scan_f64(b"2.5\r\n"), Some((2.5, 3)));
        assert_eq!(scan_f64(b"1234567890123456789012#x"), Some((1234567890123456789012.0, 22)));
        assert_eq!(scan_f64(b"2.5:7"), None);
    }

    proptest! {
        #[test]
        fn digits_are_taken_up_to_the_first_other_byte(digits_text in "[0-9]{0,19}", other: u8, behind: [u8; 9]) {
            prop_assume!(!other.is_ascii_digit());
            let text = [digits_text.as_bytes(), &[other], &behind].concat();
            let mut value = 0;
            prop_assert_eq!(digits(&text, 0, &mut value), digits_text.len());
            prop_assert_eq!(value, digits_text.parse().unwrap_or(0));
        }

        #[test]
        fn every_double_in_every_precision_is_read_exactly(bits: u64, precision in 0usize..20) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            agrees(&format!("{value:?}"));
            agrees(&format!("{value:.precision$e}"));
        }

        #[test]
        fn plain_decimals_are_read_exactly(text in "[+-]?[0-9]{0,22}(\\.[0-9]{0,22})?([eE][+-]?[0-9]{0,4})?") {
            agrees(&text);
        }
    }
}
