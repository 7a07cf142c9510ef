/** The SwiGLU feed-forward block: down(silu(gate(x)) * up(x)). */
import { Tensor } from "../../src/device/tensor.ts";
import { isTiled, tapRows } from "../../src/kernels/activationTiles.ts";
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
    const shape = [capacity, this.#gateUpProj.intermediateSize];
    const activation =
      x instanceof Tensor && isTiled(x)
        ? allocLinearInput(rec, "activation", shape)
        : rec.alloc("activation", shape);
    this.#gateUpProj.forward(context, x, activation);
    rec.tap(`${this.#name}.activation`, activation, tapRows(activation));
    residual.add(context, this.#downProj, activation);
  }
}
