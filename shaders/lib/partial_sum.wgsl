// partial_sum: the sum of one quad over all partials, in rank order.
// Needs     params.num_partials, params.partial_stride in quads; var partials: array<vec4f>
fn partial_sum(index: u32) -> vec4f {
  var sum = vec4f();
  var at = index;
  var left = params.num_partials;
  for (; left >= 4u; left -= 4u) { // four loads on their way at once
    let a = partials[at];
    let b = partials[at + params.partial_stride];
    let c = partials[at + 2u * params.partial_stride];
    let d = partials[at + 3u * params.partial_stride];
    sum = sum + a + b + c + d;
    at += 4u * params.partial_stride;
  }
  for (; left > 0u; left--) {
    sum += partials[at];
    at += params.partial_stride;
  }
  return sum;
}
