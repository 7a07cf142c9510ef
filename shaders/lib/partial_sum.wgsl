// partial_sum: the sum of one quad over all partials, in rank order.
// Needs     params.num_partials, params.partial_stride in quads; var partials: array<vec4f>
fn partial_sum(index: u32) -> vec4f {
  var sum = vec4f();
  for (var p = 0u; p < params.num_partials; p++) {
    sum += partials[p * params.partial_stride + index];
  }
  return sum;
}
