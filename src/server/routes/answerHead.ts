/** Fields that every answer and every chunk of a stream begin with. */
import { randomUUID } from "node:crypto";

export interface AnswerHead {
  readonly id: string;
  readonly object: string;
  readonly created: number;
  readonly model: string;
}

export function answerHead(prefix: string, object: string, model: string): AnswerHead {
  const id = `${prefix}-${randomUUID().replaceAll("-", "")}`;
  return { id, object, created: Math.floor(Date.now() / 1000), model };
}
