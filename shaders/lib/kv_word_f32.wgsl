// kv_word_f32: a KV cache of f32, word by word; a word is one element.
// Needs     key_cache, value_cache; queries, values
alias KvWord = f32;
const WORD_SIZE = 1u;

fn score_word(word: u32, turn: u32) -> Heads { return key_cache[word] * queries[turn]; }
fn add_word(word: u32, turn: u32, weights: Heads) { values[turn] += value_cache[word] * weights; }
