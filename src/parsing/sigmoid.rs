//! A logistic function that the compiler can vectorise.

/// `1 / (1 + e^-x)` with an absolute error of at most 1e-6 (a test measures about 1e-7 and allows 2e-7). It uses
/// only plain IEEE operations, so that every machine computes the same.
///
/// NaN gives a value next to 0. Masks compare logits with `>`, so NaN logits are never inside a mask.
#[inline]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = exp_of_negative(-x.abs());
    let numerator = if x >= 0.0 { 1.0 } else { e };
    numerator / (1.0 + e)
}

/// `e^x` for `x <= 0`. This is Cephes' `expf` (S. L. Moshier), except that the range reduction rounds by an addition
/// instead of a call.
#[inline]
fn exp_of_negative(x: f32) -> f32 {
    /// Smaller arguments are raised to this one, because their results would soon not be normal numbers.
    const LEAST: f32 = -87.0;
    /// 1.5 · 2^23. Added to a number, it leaves that number, rounded to an integer, in the lowest bits of the sum.
    const ROUNDER: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    let x = if x > LEAST { x } else { LEAST };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_58e-2;
    p = p * r + 1.666_666_6e-1;
    p = p * r + 0.5;
    let mantissa = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(127) << 23;
    mantissa * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_below_one_millionth() {
        let mut worst = 0.0_f64;
        for step in -400_000..=400_000 {
            let x = step as f32 * 2.5e-4;
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            worst = worst.max((f64::from(sigmoid(x)) - exact).abs());
        }
        assert!(worst < 2e-7, "{worst}");
        assert!(sigmoid(f32::INFINITY) > 1.0 - 1e-6);
        assert!(sigmoid(f32::NEG_INFINITY) < 1e-6);
        assert!((sigmoid(0.0) - 0.5).abs() < f32::EPSILON);
    }
}
