//! Units that more than one room writes: megabytes, which are 2^20 bytes everywhere in this program, and hexadecimal.

use std::fmt::Write;

/// Bytes of a megabyte, 2^20.
pub(crate) const MIB: u64 = 1 << 20;

/// Bytes of `megabytes`, rounded down: for the constants of a manifest.
#[must_use]
pub(crate) fn bytes_of_mb(megabytes: f64) -> u64 {
    (megabytes * MIB as f64) as u64
}

/// Whole megabytes that hold `bytes`, rounded up: for people.
#[must_use]
pub(crate) const fn whole_mb(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

/// Megabytes as a fraction: for metrics.
#[must_use]
pub(crate) fn fractional_mb(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// Lower-case hexadecimal, two digits a byte, as checksums are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn megabytes_are_powers_of_two() {
        assert_eq!(bytes_of_mb(1.5), 1_572_864);
        assert_eq!((whole_mb(0), whole_mb(1), whole_mb(MIB), whole_mb(MIB + 1)), (0, 1, 1, 2));
        assert!((fractional_mb(3 * MIB / 2) - 1.5).abs() < 1e-12);
    }

    #[test]
    fn hexadecimal_has_two_digits_a_byte() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
