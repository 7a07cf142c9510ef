/** GET /health, /ready and /v1/models. */
import type { ServerContext } from "../context.ts";

/** 503 as soon as any replica lost a worker: for alarms. */
export function health({ replicas }: ServerContext): Response {
  const states = replicas.replicas.map((replica) => {
    replica.checkFailure();
    return { replica: replica.index, state: replica.state, cause: replica.cause?.message ?? null };
  });
  const isHealthy = states.every(({ state }) => state === "ready");
  const body = { status: isHealthy ? "ok" : "failing", replicas: states };
  return Response.json(body, { status: isHealthy ? 200 : 503 });
}

/** 200 while at least one replica takes requests: for load balancers. */
export function ready({ replicas }: ServerContext): Response {
  const canServe = replicas.replicas.some((replica) => !replica.checkFailure());
  const isReady = canServe && !replicas.isDraining;
  const status = isReady ? "ready" : replicas.isDraining ? "draining" : "no replica";
  if (isReady) return Response.json({ status });
  return Response.json({ status }, { status: 503, headers: { "retry-after": "5" } });
}

/** One entry a served name, in the form of OpenAI's list. */
export function models({ options, replicas, startedS }: ServerContext): object[] {
  const { maxModelLen } = replicas.model.executor.limits;
  const [root] = options.servedModelNames;
  return options.servedModelNames.map((id) => ({
    id,
    object: "model",
    created: startedS,
    owned_by: "tandem",
    root,
    parent: null,
    max_model_len: maxModelLen,
  }));
}
