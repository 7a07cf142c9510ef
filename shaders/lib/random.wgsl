// random: counter-based noise. A draw is a pure function of (seed, position, token id), so neither
// the layout, nor the batch, nor the order of launches can change it.
//
// Source    Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", SC'11
// Layout    key = (seed, 0), counter = (token_id / 4, position, 0, 0), word = token_id % 4

// High half of the 64-bit product; WGSL has none. Halves of 16 bits, no partial sum overflows.
fn mul_high(a: u32, b: u32) -> u32 {
  let a_low = a & 0xffffu;
  let a_high = a >> 16u;
  let b_low = b & 0xffffu;
  let b_high = b >> 16u;
  let middle = a_high * b_low + ((a_low * b_low) >> 16u);
  let other = a_low * b_high + (middle & 0xffffu);
  return a_high * b_high + (middle >> 16u) + (other >> 16u);
}

fn philox4x32(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round += 1u) {
    let high = vec2u(mul_high(0xD2511F53u, c.x), mul_high(0xCD9E8D57u, c.z));
    let low = vec2u(0xD2511F53u * c.x, 0xCD9E8D57u * c.z);
    c = vec4u(high.y ^ c.y ^ k.x, low.y, high.x ^ c.w ^ k.y, low.x);
    k += vec2u(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}

// The words of token ids 4 * quad .. 4 * quad + 3.
fn quad_noise(seed: u32, position: u32, quad: u32) -> vec4u {
  return philox4x32(vec4u(quad, position, 0u, 0u), vec2u(seed, 0u));
}

fn token_noise(seed: u32, position: u32, token_id: u32) -> u32 {
  return quad_noise(seed, position, token_id / 4u)[token_id % 4u];
}

// -log(1 - u) for u = (bits + 1/2) / 2^32, which is in (0, 1) exclusive: a unit exponential.
// Small values win the draw, and there log(1 - u) would only have WGSL's absolute accuracy of
// 2^-21 (about nothing at 2^-25), so below 1/2 it is 2 atanh(u / (2 - u)) as a series (next term
// under 2e-8 of the sum) of +, * and /, which all devices round alike to a few ulp.
fn exponential(bits: u32) -> f32 {
  if (bits >= 0x80000000u) {
    return -log((f32(~bits) + 0.5) * 0x1p-32f); // 1 - u <= 1/2: 3 ulp
  }
  let u = (f32(bits) + 0.5) * 0x1p-32f;
  let s = u / (2.0 - u);
  let z = s * s;
  let series =
    1.0 + z * (1.0 / 3.0 + z * (1.0 / 5.0 + z * (1.0 / 7.0 + z * (1.0 / 9.0 + z * (1.0 / 11.0 + z / 13.0)))));
  return 2.0 * s * series;
}

// Standard Gumbel noise, in (-3.2, 22.9); absolute error under 4e-6 on all devices seen (H200: 3.3e-6), so
// two devices can only disagree on tokens whose scores differ by less than that (and the rounding
// of logit / temperature).
fn gumbel(bits: u32) -> f32 {
  return -log(exponential(bits));
}
