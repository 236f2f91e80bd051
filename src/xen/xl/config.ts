/**
 * A domain's configuration file, xl.cfg(5): the keys that matter for a domain and its disks, typed and checked.
 * The others (kernel, vif, ...) are kept by name: there is nothing here that they could configure.
 */
import { DiskError } from "../../errors.js";
import { readSettings, type XlSetting } from "./config-syntax.js";
import { parseDiskSpec, type XlDisk } from "./disk.js";

export type XlDomainType = "pv" | "pvh" | "hvm";

export interface XlConfig {
  readonly source: string;
  /** Null where the file does not say, here and below. */
  readonly name: string | null;
  readonly type: XlDomainType | null;
  /** Lower case, with hyphens. */
  readonly uuid: string | null;
  /** MiB. */
  readonly memory: number | null;
  /** MiB, not less than `memory`. */
  readonly maxmem: number | null;
  readonly vcpus: number | null;
  /** In the order of the list, which is the order of attaching. */
  readonly disks: readonly XlDisk[];
  /** Keys that were read and have no meaning here. */
  readonly ignored: readonly { readonly key: string; readonly line: number }[];
}

const USED = ["name", "type", "uuid", "memory", "maxmem", "vcpus", "disk"];
/** MiB: 16 TiB, more than Xen gives a domain. */
export const MAX_MEMORY = 16 << 20;
/** HVM_MAX_VCPUS of Xen's public headers. */
export const MAX_VCPUS = 128;
const TYPES: readonly string[] = ["pv", "pvh", "hvm"];

/** Throws `UNSUPPORTED`: xl's form of error, with source and line, at the first that is found. */
export function parseXlConfig(text: string, source: string): XlConfig {
  const settings = readSettings(text, source);
  const reader = new SettingReader(settings, source);
  const memory = reader.number("memory", 1, MAX_MEMORY);
  const maxmem = reader.number("maxmem", memory ?? 1, MAX_MEMORY);
  return {
    source,
    name: reader.text("name"),
    type: reader.type(),
    uuid: reader.uuid(),
    memory,
    maxmem,
    vcpus: reader.number("vcpus", 1, MAX_VCPUS),
    disks: reader.texts("disk").map((spec) => parseDiskSpec([spec], source)),
    ignored: [...settings.values()]
      .filter(({ name }) => !USED.includes(name))
      .map(({ name, line }) => ({ key: name, line })),
  };
}

class SettingReader {
  readonly #settings: ReadonlyMap<string, XlSetting>;
  readonly #source: string;

  constructor(settings: ReadonlyMap<string, XlSetting>, source: string) {
    this.#settings = settings;
    this.#source = source;
  }

  text(name: string): string | null {
    const setting = this.#settings.get(name);
    if (!setting) return null;
    if (setting.value.kind === "list") throw this.#fail(setting, "is a list but should be a single value");
    return setting.value.text;
  }

  texts(name: string): readonly string[] {
    const setting = this.#settings.get(name);
    if (!setting) return [];
    if (setting.value.kind === "atom") throw this.#fail(setting, "is a single value but should be a list");
    return setting.value.items.map((item, i) => {
      if (item.kind === "list") throw this.#fail(setting, `has a list as its value ${i + 1}, allowed strings`);
      return item.text;
    });
  }

  /** As C's strtol reads it with base 0: decimal, 0x hex, 0 octal. */
  number(name: string, least: number, most: number): number | null {
    const text = this.text(name);
    if (text === null) return null;
    const setting = this.#settings.get(name)!;
    if (setting.joined) throw this.#fail(setting, "is a number, which += cannot add to");
    const value = parseNumber(text);
    const allowed = `allowed ${least}..${most}`;
    if (value === null) throw this.#fail(setting, `is not a valid number: ${JSON.stringify(text)}, ${allowed}`);
    if (!(value >= least && value <= most)) throw this.#fail(setting, `is ${text}, ${allowed}`);
    return value;
  }

  type(): XlDomainType | null {
    const text = this.text("type");
    if (text !== null && !TYPES.includes(text))
      throw this.#fail(this.#settings.get("type")!, `is ${JSON.stringify(text)}, allowed ${TYPES.join(" ")}`);
    return text as XlDomainType | null;
  }

  uuid(): string | null {
    const text = this.text("uuid");
    if (text === null) return null;
    const digits = text.replaceAll("-", "").toLowerCase();
    if (!/^[0-9a-f]{32}$/.test(digits))
      throw this.#fail(this.#settings.get("uuid")!, `is ${JSON.stringify(text)}, allowed a UUID of 32 hex digits`);
    return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }

  #fail({ name, line }: XlSetting, why: string): DiskError {
    return new DiskError("UNSUPPORTED", `${this.#source}:${line}: parameter \`${name}' ${why}`, {
      details: { source: this.#source, line, key: name },
    });
  }
}

function parseNumber(text: string): number | null {
  const [, sign, hex, octal, decimal] = /^\s*([+-]?)(?:0x([0-9a-f]+)|(0[0-7]*)|([1-9]\d*))$/i.exec(text) ?? [];
  if (sign === undefined) return null;
  const size =
    hex !== undefined ? Number.parseInt(hex, 16) : octal !== undefined ? Number.parseInt(octal, 8) : Number(decimal);
  return sign === "-" ? -size : size;
}
