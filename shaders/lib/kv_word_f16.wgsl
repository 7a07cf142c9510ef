// kv_word_f16: a KV cache of f16, word by word; a word is two elements.
// Needs     key_cache, value_cache; queries, values; Scores
alias KvWord = u32;
const WORD_SIZE = 2u;

fn score_word(word: u32, even: Heads, odd: Heads) -> Heads {
  let key = unpack2x16float(key_cache[word]);
  return key.x * even + key.y * odd;
}

// Adds what the words of four keys contribute to their scores.
fn add_scores(words: vec4u, turn: u32, scores: Scores) -> Scores {
  let even = queries[2u * turn];
  let odd = queries[2u * turn + 1u];
  return Scores(
    scores.a + score_word(words.x, even, odd),
    scores.b + score_word(words.y, even, odd),
    scores.c + score_word(words.z, even, odd),
    scores.d + score_word(words.w, even, odd));
}

// Adds the words of four values, weighed.
fn add_values(words: vec4u, turn: u32, weights: Scores) {
  let a = unpack2x16float(value_cache[words.x]);
  let b = unpack2x16float(value_cache[words.y]);
  let c = unpack2x16float(value_cache[words.z]);
  let d = unpack2x16float(value_cache[words.w]);
  values[2u * turn] += a.x * weights.a + b.x * weights.b + c.x * weights.c + d.x * weights.d;
  values[2u * turn + 1u] += a.y * weights.a + b.y * weights.b + c.y * weights.c + d.y * weights.d;
}
