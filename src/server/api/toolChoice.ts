/**
 * Tools that the client says must be called: a grammar makes the completion the call's arguments, or a list
 * of calls, as in vLLM. Needs nothing of the model's own format.
 */
import { badRequest } from "../http/apiError.ts";
import type { ChatBody } from "./chatSchema.ts";
import type { ResponseFormat } from "./fields.ts";

/** What the completion is: text, the arguments of one tool, or JSON of [{ name, parameters }]. */
export type ToolChoice =
  | { readonly kind: "none" }
  | { readonly kind: "auto" }
  | { readonly kind: "named"; readonly name: string; readonly format: ResponseFormat }
  | { readonly kind: "required"; readonly format: ResponseFormat };

type Tool = NonNullable<ChatBody["tools"]>[number];

const ANY_OBJECT = { type: "object" };

/** Throws a 400 for a choice that the tools do not hold. */
export function readToolChoice(body: ChatBody): ToolChoice {
  const { tools, tool_choice: choice, parallel_tool_calls: parallel } = body;
  const given = tools ?? [];
  if (choice === "none" || given.length === 0) {
    if (isOneOf(choice, ["none", "auto", null, undefined])) return { kind: "none" };
    throw badRequest("tool_choice: expected tools with it.", "tool_choice", "invalid_value");
  }
  if (isOneOf(choice, ["auto", null, undefined])) return { kind: "auto" };
  if (choice === "required")
    return { kind: "required", format: formatOf(listSchema(given, parallel ?? true)) };
  const name = (choice as { function?: { name?: unknown } }).function?.name;
  const tool = given.find((each) => each.function.name === name);
  if (tool !== undefined) {
    return { kind: "named", name: tool.function.name, format: formatOf(parametersOf(tool)) };
  }
  const expected = 'expected "auto", "none", "required" or one of the tools by its name';
  throw badRequest(`tool_choice: ${expected}.`, "tool_choice", "invalid_value");
}

function isOneOf(value: unknown, known: readonly unknown[]): boolean {
  return known.includes(value);
}

function parametersOf(tool: Tool): Record<string, unknown> {
  const { parameters } = tool.function as { parameters?: Record<string, unknown> | null };
  return parameters ?? ANY_OBJECT;
}

function listSchema(tools: readonly Tool[], isParallel: boolean): Record<string, unknown> {
  const items = tools.map((tool) => ({
    type: "object",
    properties: { name: { enum: [tool.function.name] }, parameters: parametersOf(tool) },
    required: ["name", "parameters"],
  }));
  const length = { minItems: 1, ...(isParallel ? {} : { maxItems: 1 }) };
  return { type: "array", ...length, items: { anyOf: items } };
}

function formatOf(schema: Record<string, unknown>): ResponseFormat {
  return { type: "json_schema", json_schema: { schema } };
}
