/**
 * A strict reader of Prometheus' text format 0.0.4 (prometheus.io, "Exposition formats"): throws for whatever a scraper
 * could stumble over, and for what its rules for histograms forbid.
 */

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL = /^[a-zA-Z_][a-zA-Z0-9_]*$/;
const TYPES = ["counter", "gauge", "histogram", "summary", "untyped"];

export function parseMetrics(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("the last line does not end");
  const families = new Map<string, Family & { samples: Sample[] }>();
  const seen = new Set<string>();
  let help: [string, string] | undefined;
  let current: (Family & { samples: Sample[] }) | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const comment = /^# (HELP|TYPE) (\S+) (.*)$/.exec(line);
    if (comment?.[1] === "HELP") {
      if (help) throw new Error(`HELP twice: ${line}`);
      help = [comment[2]!, unescaped(comment[3]!, "\\n")];
    } else if (comment) {
      const [, , name, type] = comment as unknown as [string, string, string, string];
      if (!NAME.test(name) || !TYPES.includes(type)) throw new Error(`no TYPE: ${line}`);
      if (help?.[0] !== name || families.has(name)) throw new Error(`HELP and TYPE once, in this order: ${line}`);
      current = { name, type, help: help[1], samples: [] };
      families.set(name, current);
      help = undefined;
    } else {
      const sample = parseSample(line);
      const key = JSON.stringify([sample.name, Object.entries(sample.labels).sort()]);
      if (seen.has(key)) throw new Error(`twice: ${line}`);
      seen.add(key);
      if (help || !current || !belongs(sample.name, current)) throw new Error(`not with its family: ${line}`);
      current.samples.push(sample);
    }
  }
  for (const family of families.values()) checkFamily(family);
  return families;
}

function belongs(name: string, { name: family, type }: Family): boolean {
  return type === "histogram" ? ["_bucket", "_sum", "_count"].some((end) => name === family + end) : name === family;
}

function parseSample(line: string): Sample {
  const at = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?/.exec(line);
  if (!at) throw new Error(`no sample: ${line}`);
  const labels: Record<string, string> = {};
  let rest = line.slice(at[0].length);
  while (at[2]) {
    const label = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|\})/.exec(rest);
    if (!label || !LABEL.test(label[1]!) || label[1]! in labels) throw new Error(`no label: ${rest}`);
    labels[label[1]!] = unescaped(label[2]!, '"n\\');
    rest = rest.slice(label[0].length);
    if (label[3] === "}") break;
  }
  const value = /^ (NaN|[+-]Inf|[+-]?\d+(\.\d+)?([eE][+-]?\d+)?)$/.exec(rest)?.[1];
  if (value === undefined) throw new Error(`no value: ${line}`);
  return { name: at[1]!, labels, value: Number(value.replace("Inf", "Infinity")) };
}

function unescaped(text: string, allowed: string): string {
  return text.replace(/\\(.?)/g, (whole, next: string) => {
    if (next === "" || !allowed.includes(next)) throw new Error(`escape ${whole}`);
    return next === "n" ? "\n" : next;
  });
}

function checkFamily({ name, type, samples }: Family): void {
  if (type === "counter" && !name.endsWith("_total")) throw new Error(`${name} is a counter without _total`);
  if (type === "counter" && samples.some(({ value }) => !(value >= 0))) throw new Error(`${name} is below 0`);
  if (type !== "histogram") return;
  const groups = new Map<string, Sample[]>();
  for (const sample of samples) groups.set(series(sample), [...(groups.get(series(sample)) ?? []), sample]);
  for (const [key, group] of groups) {
    const buckets = group.filter((sample) => sample.name === `${name}_bucket`);
    const bounds = buckets.map(({ labels }) => Number(labels.le?.replace("+Inf", "Infinity")));
    const counts = buckets.map(({ value }) => value);
    const count = group.find((sample) => sample.name === `${name}_count`)?.value;
    const sum = group.find((sample) => sample.name === `${name}_sum`)?.value;
    const ascending = (list: number[], strict: boolean) =>
      list.every((value, i) => i === 0 || (strict ? value > list[i - 1]! : value >= list[i - 1]!));
    if (bounds.at(-1) !== Number.POSITIVE_INFINITY || !ascending(bounds, true)) throw new Error(`bounds of ${key}`);
    if (!ascending(counts, false) || counts.at(-1) !== count || sum === undefined) throw new Error(`counts of ${key}`);
  }
}

function series({ labels }: Sample): string {
  return JSON.stringify(Object.entries(labels).filter(([label]) => label !== "le"));
}
