// matrix_pairs: the matrices of attention_prefill_matrix by name: 32 or 64 columns of head_dim together.
// Needs     const HEAD_DIM, STRIDE, SCORE_STRIDE, WEIGHT_STRIDE; keys, values, scores, weights:
//           workgroup arrays of vec4u; offsets and distances count their elements
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

struct Lefts { a: Left, b: Left, c: Left, d: Left }   // 64 columns of the queries
struct Queries { low: Lefts, high: Lefts }            // high is unused with a head_dim of 64
struct Pair { a: Sums, b: Sums }                      // scores of 32 keys, or 32 columns of the results
struct Outputs { a: Pair, b: Pair, c: Pair, d: Pair } // c and d are unused with a head_dim of 64

fn load_left(at: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&scores, at, SCORE_STRIDE);
}

fn load_lefts(at: u32) -> Lefts {
  return Lefts(load_left(at), load_left(at + 2u), load_left(at + 4u), load_left(at + 6u));
}

fn store_pair(pair: Pair, at: u32) {
  subgroupMatrixStore<row_major>(&scores, at, pair.a, SCORE_STRIDE);
  subgroupMatrixStore<row_major>(&scores, at + 4u, pair.b, SCORE_STRIDE);
}

fn load_pair(at: u32) -> Pair {
  return Pair(
    subgroupMatrixLoad<Sums, row_major>(&scores, at, SCORE_STRIDE),
    subgroupMatrixLoad<Sums, row_major>(&scores, at + 4u, SCORE_STRIDE));
}

// sums + queries . the keys at `at`, transposed, over 16 columns
fn add_product(sums: Sums, queries: Left, at: u32) -> Sums {
  let key = subgroupMatrixLoad<Right, col_major>(&keys, at, STRIDE);
  return subgroupMatrixMultiplyAccumulate(queries, key, sums);
}

fn add_products(sums: Sums, queries: Lefts, at: u32) -> Sums {
  var total = add_product(sums, queries.a, at);
  total = add_product(total, queries.b, at + 2u);
  total = add_product(total, queries.c, at + 4u);
  return add_product(total, queries.d, at + 6u);
}

// The scores of the tile's 32 keys.
fn multiply_keys(queries: Queries) -> Pair {
  var scores_a = add_products(Sums(), queries.low, 0u);
  var scores_b = add_products(Sums(), queries.low, 16u * STRIDE);
  if (HEAD_DIM > 64u) {
    scores_a = add_products(scores_a, queries.high, 8u);
    scores_b = add_products(scores_b, queries.high, 16u * STRIDE + 8u);
  }
  return Pair(scores_a, scores_b);
}

fn add_weighted_pair(sums: Pair, left: Left, at: u32) -> Pair {
  let a = subgroupMatrixLoad<Right, row_major>(&values, at, STRIDE);
  let b = subgroupMatrixLoad<Right, row_major>(&values, at + 2u, STRIDE);
  return Pair(
    subgroupMatrixMultiplyAccumulate(left, a, sums.a), subgroupMatrixMultiplyAccumulate(left, b, sums.b));
}

// sums + the weights of 16 keys . the values at `at`
fn add_weighted_keys(sums: Outputs, left: Left, at: u32) -> Outputs {
  var total = sums;
  total.a = add_weighted_pair(sums.a, left, at);
  total.b = add_weighted_pair(sums.b, left, at + 4u);
  if (HEAD_DIM > 64u) {
    total.c = add_weighted_pair(sums.c, left, at + 8u);
    total.d = add_weighted_pair(sums.d, left, at + 12u);
  }
  return total;
}

fn add_weighted(sums: Outputs, at: u32) -> Outputs {
  let a = subgroupMatrixLoad<Left, row_major>(&weights, at, WEIGHT_STRIDE);
  let b = subgroupMatrixLoad<Left, row_major>(&weights, at + 2u, WEIGHT_STRIDE);
  return add_weighted_keys(add_weighted_keys(sums, a, 0u), b, 16u * STRIDE);
}
