//! The kinds of processors whose speeds differ: times measured on one kind say little about another.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of a processor, by the fastest instructions that a network uses. `Other` is every kind without a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessorKind {
    /// x86 with products of bytes (VNNI) in vectors of 512 bits.
    Vnni,
    /// x86 with vectors of 512 bits and no VNNI.
    Avx512,
    /// x86 with products of bytes in vectors of 256 bits, the longest it has.
    AvxVnni,
    /// x86 with vectors of 256 bits, which is what AWS Lambda's show to a function.
    Avx2,
    /// 64-bit Arm.
    Neon,
    Other,
}

impl ProcessorKind {
    /// The kind of the processor that this process runs on.
    #[must_use]
    pub fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx512vnni") {
                return Self::Vnni;
            }
            if std::is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if std::is_x86_feature_detected!("avxvnni") {
                return Self::AvxVnni;
            }
            if std::is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        if cfg!(target_arch = "aarch64") { Self::Neon } else { Self::Other }
    }

    /// Whether a graph that was made ready for the other kind is ready for this one, too: the runtime lays weights out
    /// by the length of vectors.
    #[must_use]
    pub(crate) fn lays_weights_out_like(self, other: Self) -> bool {
        let vector_bits = |kind| match kind {
            Self::Vnni | Self::Avx512 => 512,
            Self::AvxVnni | Self::Avx2 => 256,
            Self::Neon => 128,
            Self::Other => 0,
        };
        vector_bits(self) == vector_bits(other)
    }
}

impl fmt::Display for ProcessorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vnni => "VNNI",
            Self::Avx512 => "AVX-512",
            Self::AvxVnni => "AVX-VNNI",
            Self::Avx2 => "AVX2",
            Self::Neon => "NEON",
            Self::Other => "of another kind",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ProcessorKind::{Avx2, Avx512, AvxVnni, Neon, Other, Vnni};

    #[test]
    fn weights_lie_alike_where_vectors_are_as_long() {
        let alike = [&[Vnni, Avx512][..], &[AvxVnni, Avx2], &[Neon], &[Other]];
        for (index, group) in alike.iter().enumerate() {
            for kind in *group {
                for (other_index, others) in alike.iter().enumerate() {
                    let same = others.iter().all(|other| kind.lays_weights_out_like(*other));
                    assert_eq!(same, index == other_index, "{kind:?} and {others:?}");
                }
            }
        }
    }
}
