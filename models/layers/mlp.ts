/** The SwiGLU feed-forward block: down(silu(gate(x)) * up(x)). */
import type { LinearInput } from "../../src/kernels/linearFused.ts";
import { allocLinearInput } from "../../src/kernels/linearMatrix.ts";
import type { ForwardContext, WeightStore } from "./context.ts";
import { GateUpParallelLinear, RowParallelLinear } from "./linear.ts";
import type { ResidualStream } from "./residual.ts";

export class Mlp {
  readonly #name: string;
  readonly #gateUpProj: GateUpParallelLinear;
  readonly #downProj: RowParallelLinear;

  constructor(name: string, weights: WeightStore) {
    this.#name = name;
    this.#gateUpProj = new GateUpParallelLinear(`${name}.gate_up_proj`, weights);
    this.#downProj = new RowParallelLinear(`${name}.down_proj`, weights);
  }

  /** residual += down(silu(gate(x)) * up(x)); x: [capacity, hidden] */
  forward(context: ForwardContext, x: LinearInput, residual: ResidualStream): void {
    const { rec, capacity } = context;
    const activation = allocLinearInput(rec, "activation", [
      capacity,
      this.#gateUpProj.intermediateSize,
    ]);
    this.#gateUpProj.forward(context, x, activation);
    rec.tap(`${this.#name}.activation`, activation);
    residual.add(context, this.#downProj, activation);
  }
}
