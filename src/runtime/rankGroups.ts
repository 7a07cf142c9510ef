/** One rank's handles on its groups: tensor-parallel and pipeline-parallel for each lane, and the tokens' way. */
import type { Communicator } from "../collectives/communicator.ts";
import type { CommunicatorOptions } from "../collectives/communicatorOptions.ts";
import { DeviceCommunicator } from "../collectives/deviceCommunicator.ts";
import { HostCommunicator } from "../collectives/hostCommunicator.ts";
import { microBatchGroup } from "../collectives/microBatchGroup.ts";
import { ParallelState } from "../collectives/parallelState.ts";
import type { ProcessGroup } from "../collectives/processGroup.ts";
import type { Transport } from "../collectives/transport/transport.ts";
import { type RunSpec, samplingRank } from "./rankSpec.ts";
import { TokenExchange } from "./tokenExchange.ts";

/** For tests that plant faults: another communicator in place of a rank's own. */
export interface GroupHooks {
  readonly tp?: (communicator: Communicator, rank: number) => Communicator;
  readonly pp?: (communicator: Communicator, rank: number) => Communicator;
}

export interface RankGroups {
  /** For each micro-batch that runs at once, handles of its own. */
  readonly lanes: readonly { readonly tp: Communicator; readonly pp: Communicator }[];
  readonly tokens: TokenExchange;
}

/** Every rank calls it once, with the same `run`. */
export function joinGroups(
  transport: Transport,
  run: RunSpec,
  options: CommunicatorOptions,
  hooks: GroupHooks = {},
): RankGroups {
  const state = new ParallelState(transport, { pp: run.ppSize, tp: run.tpSize });
  const communicator = (group: ProcessGroup, microBatch: number): Communicator => {
    const own = microBatchGroup(transport, group, microBatch);
    return new DeviceCommunicator(new HostCommunicator(own, options));
  };
  const { rank } = transport;
  const lanes = Array.from({ length: run.numMicroBatches }, (_, microBatch) => {
    const tp = communicator(state.getTpGroup(), microBatch);
    const pp = communicator(state.getPpGroup(), microBatch);
    return { tp: hooks.tp?.(tp, rank) ?? tp, pp: hooks.pp?.(pp, rank) ?? pp };
  });
  const world = new HostCommunicator(state.getWorldGroup(), options);
  return { lanes, tokens: new TokenExchange(world, samplingRank(run)) };
}
