//! The one random number of a fit.
//!
//! Matsumoto and Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number generator" (1998),
//! seeded by the linear rule of their 2002 revision: what NumPy's `RandomState(seed).random_sample()` answers first. Only the two
//! words that are needed are ever made.

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// The first uniform number in [0, 1), of 53 bits, that the generator gives for `seed`.
pub fn first_uniform(seed: u32) -> f64 {
    let mut state = [0u32; WORDS];
    state[0] = seed;
    for index in 1..WORDS {
        let before = state[index - 1];
        state[index] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(index as u32);
    }
    let twisted = |index: usize| {
        let joined = (state[index] & 0x8000_0000) | (state[index + 1] & 0x7fff_ffff);
        temper(state[index + SHIFT] ^ (joined >> 1) ^ if joined & 1 == 1 { 0x9908_b0df } else { 0 })
    };
    let (high, low) = (u64::from(twisted(0) >> 5), u64::from(twisted(1) >> 6));
    ((high << 26) + low) as f64 / (1u64 << 53) as f64
}

fn temper(mut word: u32) -> u32 {
    word ^= word >> 11;
    word ^= (word << 7) & 0x9d2c_5680;
    word ^= (word << 15) & 0xefc6_0000;
    word ^ (word >> 18)
}
