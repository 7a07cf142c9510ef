/** Server-sent events as OpenAI's API frames them: one `data:` line of JSON an event, then [DONE]. */
import { toApiError } from "./apiError.ts";

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache",
  // nginx would otherwise collect the events before it passes them on.
  "x-accel-buffering": "no",
};

/** How a stream of events ends and whom it tells. */
export interface SseOptions {
  /** Called once when the client left before the end. */
  readonly onCancel: () => void;
  /** An error after the first event cannot change the status any more: it is sent as an event, and told here. */
  readonly onError?: (error: unknown) => void;
  /** Send `[DONE]` at the end; true when left out. */
  readonly done?: boolean;
}

/** Reads `events` as fast as the client takes them; each becomes one `data:` line. */
export function sseResponse(events: AsyncIterator<unknown>, options: SseOptions): Response {
  const encoder = new TextEncoder();
  const line = (data: string): Uint8Array<ArrayBuffer> => encoder.encode(`data: ${data}\n\n`);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller): Promise<void> {
      try {
        const next = await events.next();
        if (next.done !== true) {
          controller.enqueue(line(JSON.stringify(next.value)));
          return;
        }
      } catch (error) {
        options.onError?.(error);
        controller.enqueue(line(JSON.stringify(toApiError(error).body)));
      }
      if (options.done !== false) controller.enqueue(line("[DONE]"));
      controller.close();
    },
    cancel(): void {
      options.onCancel();
    },
  });
  return new Response(body, { headers: HEADERS });
}
