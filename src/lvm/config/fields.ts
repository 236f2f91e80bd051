/** The entries of one section, taken out key by key: what nobody asked for is left over. */
import { DiskError } from "../../errors.js";
import type { ConfigValue, Entry, Section } from "./tree.js";

export class Fields {
  readonly #where: string;
  readonly #entries: Map<string, Entry>;

  /** `where` names the section in errors. A key that stands twice is `CORRUPT`. */
  constructor(entries: readonly Entry[], where: string) {
    this.#where = where;
    this.#entries = new Map(entries.map((entry) => [entry.key, entry]));
    if (this.#entries.size !== entries.length) throw this.bad("a key stands in it twice, allowed once");
  }

  /** A whole number 0..max. Without a fallback it must be there. */
  count(key: string, max: number, fallback?: number): number {
    const value = this.#assigned(key);
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > max)
      throw this.bad(`${key} is ${show(value)}, allowed 0..${max}`);
    return value;
  }

  text(key: string, fallback?: string): string {
    const value = this.#assigned(key);
    if (value === undefined && fallback !== undefined) return fallback;
    if (typeof value !== "string") throw this.bad(`${key} is ${show(value)}, allowed a string`);
    return value;
  }

  list(key: string, required = false): string[] {
    const value = this.#assigned(key) ?? (required ? undefined : []);
    const values = typeof value === "string" ? [value] : value;
    if (!Array.isArray(values) || !values.every((item) => typeof item === "string"))
      throw this.bad(`${key} is ${show(value)}, allowed a list of strings`);
    return values;
  }

  /** A list of anything; undefined when it is not there. */
  values(key: string): readonly unknown[] | undefined {
    const value = this.#assigned(key);
    if (value !== undefined && !Array.isArray(value)) throw this.bad(`${key} is ${show(value)}, allowed a list`);
    return value as readonly unknown[] | undefined;
  }

  section(key: string): readonly Entry[] | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    if (entry.kind !== "section") throw this.bad(`${key} is a value, allowed a section`);
    this.#entries.delete(key);
    return entry.entries;
  }

  /** The sections whose keys match, in their order. */
  sections(pattern: RegExp): Section[] {
    const found = [...this.#entries.values()].filter((entry) => entry.kind === "section" && pattern.test(entry.key));
    for (const { key } of found) this.#entries.delete(key);
    return found as Section[];
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** What was not taken, in its order. */
  rest(): Entry[] {
    return [...this.#entries.values()];
  }

  bad(found: string): DiskError {
    return new DiskError("CORRUPT", `Cannot read ${this.#where}: ${found}`);
  }

  #assigned(key: string): ConfigValue | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    if (entry.kind !== "assign") throw this.bad(`${key} is a section, allowed a value`);
    this.#entries.delete(key);
    return entry.value;
  }
}

function show(value: unknown): string {
  if (value === undefined) return "missing";
  const text = typeof value === "bigint" ? String(value) : JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
