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
