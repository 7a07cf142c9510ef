// kv_word_f32: a KV cache of f32, word by word; a word is one element.
// Needs     key_cache, value_cache; queries, values; Scores
alias KvWord = f32;
const WORD_SIZE = 1u;

// Adds what the words of four keys contribute to their scores.
fn add_scores(words: vec4u, turn: u32, scores: Scores) -> Scores {
  let query = queries[turn];
  return Scores(
    scores.a + key_cache[words.x] * query,
    scores.b + key_cache[words.y] * query,
    scores.c + key_cache[words.z] * query,
    scores.d + key_cache[words.w] * query);
}

// Adds the words of four values, weighed.
fn add_values(words: vec4u, turn: u32, weights: Scores) {
  values[turn] += value_cache[words.x] * weights.a + value_cache[words.y] * weights.b
    + value_cache[words.z] * weights.c + value_cache[words.w] * weights.d;
}
