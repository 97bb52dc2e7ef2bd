//! Changed copies of a corpus, from a seed: what a fuzzer without eyes can do in the time of a test.

use crate::random::Random;

/// Bytes of an input, at the most.
const LEN_MAX: usize = 2_048;

/// An input made of others. The same seed makes the same one.
///
/// # Panics
/// If the corpus is empty.
pub fn input(corpus: &[Vec<u8>], words: &[&[u8]], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    // The first number of a small seed is small.
    random.bits();
    let mut input = corpus[random.below(corpus.len() as u64) as usize].clone();
    let changes = random.below(4);
    for _ in 0..=random.below(1 << changes) {
        change(&mut input, corpus, words, &mut random);
    }
    input.truncate(LEN_MAX);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random) {
    let len = input.len() as u64;
    let at = random.below(len + 1) as usize;
    let most = random.below(6);
    let end = (at + 1 + random.below(1 << most) as usize).min(input.len());
    match random.below(9) {
        0 | 1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 if at < input.len() => input[at] = random.bits() as u8,
        3 => input.insert(at, random.bits() as u8),
        4 if at < end => drop(input.drain(at..end)),
        // A part twice, here or elsewhere.
        5 if at < end => {
            let part = input[at..end].to_vec();
            let to = random.below(len + 1) as usize;
            input.splice(to..to, part);
        }
        6 => {
            let other = &corpus[random.below(corpus.len() as u64) as usize];
            let from = random.below(other.len() as u64 + 1) as usize;
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ if !words.is_empty() => {
            let word = words[random.below(words.len() as u64) as usize];
            let to = if random.one_in(2) { at } else { end.max(at) };
            input.splice(at..to, word.iter().copied());
        }
        _ => input.truncate(at),
    }
}
