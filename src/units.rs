//! Units and numbers that more than one room reads or writes: megabytes, which are 2^20 bytes everywhere in this program,
//! hexadecimal, and JSON's whole numbers.

use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

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

/// A whole number as JSON Schema understands it: `640.0` is as good as `640`.
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Whole, E> {
                /// From here on not every whole number is one of these.
                const EXACT: f64 = 9_007_199_254_740_992.0;
                if number.fract() == 0.0 && (0.0..=EXACT).contains(&number) {
                    Ok(Whole(number as u64))
                } else {
                    Err(E::invalid_value(de::Unexpected::Float(number), &self))
                }
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

/// Reads a whole number that must be there.
pub(crate) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(number)| number)
}

/// Reads a whole number, or null.
pub(crate) fn maybe_whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let whole = Option::<Whole>::deserialize(deserializer)?;
    whole.map(|Whole(number)| u32::try_from(number).map_err(de::Error::custom)).transpose()
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
