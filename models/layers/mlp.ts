/** The SwiGLU feed-forward block: down(silu(gate(x)) * up(x)). */
import type { Tensor } from "../../src/device/device.ts";
import type { ForwardContext, WeightStore } from "./context.ts";
import type { PendingSum } from "./decoderLayer.ts";
import { GateUpParallelLinear, RowParallelLinear } from "./linear.ts";

export class Mlp {
  readonly #name: string;
  readonly #gateUpProj: GateUpParallelLinear;
  readonly #downProj: RowParallelLinear;

  constructor(name: string, weights: WeightStore) {
    this.#name = name;
    this.#gateUpProj = new GateUpParallelLinear(`${name}.gate_up_proj`, weights);
    this.#downProj = new RowParallelLinear(`${name}.down_proj`, weights);
  }

  /** x: [capacity, hidden] -> [capacity, hidden], to be summed over the group */
  forward(context: ForwardContext, x: Tensor): PendingSum {
    const { rec, capacity } = context;
    const activation = rec.alloc("activation", [capacity, this.#gateUpProj.intermediateSize]);
    this.#gateUpProj.forward(context, x, activation);
    rec.tap(`${this.#name}.activation`, activation);
    return {
      sum: this.#downProj.forward(context, activation),
      producer: `${this.#name}.down_proj`,
    };
  }
}
