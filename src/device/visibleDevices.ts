/** TANDEM_VISIBLE_DEVICES: which adapters exist for Tandem, and in which order. */
import { AdapterError } from "../common/errors.ts";
import type { AdapterName } from "./physicalDevice.ts";

/** The variable's name. */
export const VISIBLE_DEVICES_VARIABLE = "TANDEM_VISIBLE_DEVICES";

const INDEX = /^\d{1,4}$/;
/** nvidia-smi writes `GPU-` before it. */
const UUID = /^(?:gpu-)?([\da-f]{8}-?[\da-f]{4}-?[\da-f]{4}-?[\da-f]{4}-?[\da-f]{12})$/;
/** domain:bus:device.function; the domain may be left out, or have 8 digits as nvidia-smi writes it. */
const PCI_ADDRESS = /^(?:([\da-f]{4,8}):)?([\da-f]{2}:[\da-f]{2}\.[0-7])$/;

/** One name of a device, as the user wrote it and as it is compared. */
type DeviceName = { readonly text: string } & (
  | { readonly by: "index"; readonly index: number }
  | { readonly by: "uuid"; readonly uuid: string }
  | { readonly by: "pci"; readonly domain: number; readonly address: string }
);

function refuse(expected: string, got: string, remedy: string): never {
  throw new AdapterError({ what: VISIBLE_DEVICES_VARIABLE, expected, got, remedy });
}

const LIST_THEM = `\`${VISIBLE_DEVICES_VARIABLE}= node run.ts devices\` lists them`;

function parseName(text: string): DeviceName {
  const plain = text.trim().toLowerCase();
  if (INDEX.test(plain)) return { text, by: "index", index: Number(plain) };
  const uuid = UUID.exec(plain)?.[1];
  if (uuid !== undefined) return { text, by: "uuid", uuid: uuid.replaceAll("-", "") };
  const [isPci, domain = "0", address = ""] = PCI_ADDRESS.exec(plain) ?? [];
  if (isPci !== undefined) return { text, by: "pci", domain: Number.parseInt(domain, 16), address };
  return refuse(
    "device indices, UUIDs or PCI addresses between commas, as 0,1 or 0000:3b:00.0",
    JSON.stringify(text),
    LIST_THEM,
  );
}

/** Unset and empty mean all devices. */
function parseNames(value: string | undefined): DeviceName[] | null {
  return value === undefined || value.trim() === "" ? null : value.split(",").map(parseName);
}

/** True when the value names a device by what only the device layer can tell. */
export function needsIdentity(value: string | undefined): boolean {
  return parseNames(value)?.some(({ by }) => by !== "index") ?? false;
}

function isNamed(name: DeviceName, { physical }: AdapterName, index: number): boolean {
  if (name.by === "index") return name.index === index;
  if (physical === null) return false;
  if (name.by === "uuid") return physical.uuid.replaceAll("-", "") === name.uuid;
  const [domain = "", ...rest] = physical.pciAddress?.split(":") ?? [];
  return Number.parseInt(domain, 16) === name.domain && rest.join(":") === name.address;
}

function find(name: DeviceName, adapters: readonly AdapterName[]): number {
  const found = adapters.flatMap((adapter, index) =>
    isNamed(name, adapter, index) ? [index] : [],
  );
  const [first] = found;
  if (first === undefined) {
    const range = adapters.length === 0 ? "a device" : `an index from 0 to ${adapters.length - 1}`;
    return refuse(name.by === "index" ? range : "a device of this machine", name.text, LIST_THEM);
  }
  if (found.length > 1) {
    refuse(
      "a name of one device",
      `${name.text}, which devices ${found.join(" and ")} have`,
      "name them by index",
    );
  }
  return first;
}

/**
 * The adapters that the variable's value leaves, in its order. `layerProblem` says why the device
 * layer is not at work, if it is not: then only indices can be looked up.
 */
export function visibleAdapters(
  value: string | undefined,
  adapters: readonly AdapterName[],
  layerProblem: string | undefined,
): readonly AdapterName[] {
  const names = parseNames(value);
  if (names === null) return adapters;
  const unknowable = names.find(({ by }) => by !== "index");
  if (unknowable !== undefined && layerProblem !== undefined) {
    refuse(
      `indices, as UUIDs and PCI addresses need the device layer, which ${layerProblem}`,
      unknowable.text,
      "name devices by index",
    );
  }
  const texts = new Map<number, string>();
  for (const name of names) {
    const index = find(name, adapters);
    const earlier = texts.get(index);
    if (earlier !== undefined) {
      refuse(
        "each device once",
        `device ${index} twice, as ${earlier} and ${name.text}`,
        "to run several ranks on one device give a larger --tp or --pp: devices are dealt to ranks cyclically",
      );
    }
    texts.set(index, name.text);
  }
  return [...texts.keys()].flatMap((index) => adapters[index] ?? []);
}
