/**
 * The grammar of a disk specification (libxlu_disk in behaviour): a run of tokens between commas, each of which is
 * a key with a value, a flag, a deprecated prefix, or the next of four positional parameters: target, format, vdev, access.
 *
 * Unlike xl: an unknown key is told whole (xl shows the first character of its value, and calls one with an underscore or
 * without a value bad syntax), and a NUL, which ends a text of xl's, is bad syntax.
 */
import { DiskError } from "../../errors.js";
import type { XlBackendType, XlDiskFormat } from "./disk.js";

/** Where specifications come from that are words of the command; what is wrong with them is wrong usage. */
export const COMMAND_LINE = "command line";

/** What was said so far. A field that is missing was not said. */
export interface DiskDraft {
  readonly source: string;
  /** The text being read. */
  text: string;
  target?: string;
  format?: XlDiskFormat;
  /** By a word, not by an empty place, which means the default. */
  formatNamed: boolean;
  vdev?: string;
  access: "rw" | "ro";
  accessPlaced: boolean;
  prefixed: boolean;
  cdrom: boolean;
  backend?: string;
  backendType?: XlBackendType;
  script?: string;
  specification?: "xen" | "virtio";
  discard?: boolean;
  trusted?: boolean;
  grantUsage?: boolean;
  directIoSafe: boolean;
  colo: boolean;
  coloHost?: string;
  coloExport?: string;
  activeDisk?: string;
  hiddenDisk?: string;
}

export function emptyDraft(source: string): DiskDraft {
  const flags = {
    formatNamed: false,
    accessPlaced: false,
    prefixed: false,
    cdrom: false,
    directIoSafe: false,
    colo: false,
  };
  return { source, text: "", access: "rw", ...flags };
}

type TextField = "target" | "vdev" | "backend" | "script" | "coloHost" | "coloExport" | "activeDisk" | "hiddenDisk";

const FORMATS: Readonly<Record<string, XlDiskFormat>> = {
  "": "raw",
  raw: "raw",
  qcow: "qcow",
  qcow2: "qcow2",
  vhd: "vhd",
  qed: "qed",
  empty: "empty",
};
const BACKEND_TYPES: Readonly<Record<string, XlBackendType>> = {
  phy: "phy",
  qdisk: "qdisk",
  tap: "tap",
  standalone: "standalone",
};
const SPECIFICATIONS: Readonly<Record<string, "xen" | "virtio">> = { xen: "xen", virtio: "virtio" };
const ACCESSES: Readonly<Record<string, "rw" | "ro">> = { "": "rw", rw: "rw", w: "rw", ro: "ro", r: "ro" };

/** `token` is the whole of it, its comma included, as xl shows it. */
type KeyRule = (draft: DiskDraft, value: string, token: string) => void;

const text =
  (field: TextField, name: string): KeyRule =>
  (draft, value) =>
    saveText(draft, field, name, value);

const KEYS: Readonly<Record<string, KeyRule>> = {
  format: setFormat,
  vdev: text("vdev", "vdev"),
  access: setAccess,
  backend: text("backend", "backend"),
  backendtype: (draft, value) => {
    draft.backendType = oneOf(draft, BACKEND_TYPES, "backendtype", value, { name: "backend", old: draft.backendType });
  },
  script: text("script", "script"),
  specification: (draft, value) => {
    const old = { name: "specification", old: draft.specification };
    draft.specification = oneOf(draft, SPECIFICATIONS, "specification", value, old);
  },
  devtype: (draft, value, token) => {
    if (value !== "cdrom" && value !== "disk") throw draftFail(draft, "unknown value for type", token);
    draft.cdrom = value === "cdrom";
  },
  "colo-host": text("coloHost", "colo-host"),
  "colo-export": text("coloExport", "colo-export"),
  "active-disk": text("activeDisk", "active-disk"),
  "hidden-disk": text("hiddenDisk", "hidden-disk"),
  "colo-port": (draft, value) => {
    if (!/^\s*[+-]?0*[1-9]/.test(value)) throw draftFail(draft, "unknown value for colo_port", value);
  },
  grant_usage: (draft, value, token) => {
    if (value !== "0" && value !== "1") throw draftFail(draft, "unknown parameter", token);
    draft.grantUsage = value === "1";
  },
};

const FLAGS: Readonly<Record<string, (draft: DiskDraft) => void>> = {
  cdrom: (draft) => {
    draft.cdrom = true;
  },
  "direct-io-safe": (draft) => {
    draft.directIoSafe = true;
  },
  discard: (draft) => {
    draft.discard = true;
  },
  "no-discard": (draft) => {
    draft.discard = false;
  },
  colo: (draft) => {
    draft.colo = true;
  },
  "no-colo": (draft) => {
    draft.colo = false;
  },
  trusted: (draft) => {
    draft.trusted = true;
  },
  untrusted: (draft) => {
    draft.trusted = false;
  },
};

/** Tried in this order at the begin of each token; the first that fits takes it. Order and patterns give xl's longest match. */
const RULES: readonly { pattern: RegExp; take(draft: DiskDraft, match: RegExpExecArray): void }[] = [
  { pattern: /[ \t\n]+/y, take: () => {} },
  // Swallows the rest of the line with its commas; one at the very end is a separator after all.
  {
    pattern: /target=([^\n\0]*)/y,
    take: (draft, [, rest]) => saveText(draft, "target", "target", rest!.replace(/,$/, "")),
  },
  {
    pattern: /([a-z][-_a-z0-9]*)=([^,\0]*),?/y,
    take(draft, [token, key, value]) {
      const rule = Object.hasOwn(KEYS, key!) ? KEYS[key!]! : undefined;
      if (!rule) throw draftFail(draft, "unknown parameter", token.replace(/,$/, ""));
      rule(draft, value!, token);
    },
  },
  {
    pattern: /(cdrom|direct-io-safe|(?:no-)?discard|(?:no-)?colo|(?:un)?trusted)(?:,|$)/y,
    take: (draft, [, flag]) => FLAGS[flag!]!(draft),
  },
  {
    pattern: /(raw|qcow2?|vhd):/y,
    take(draft, [, format]) {
      draft.prefixed = true;
      setFormat(draft, format!);
    },
  },
  {
    pattern: /(iscsi|e?nbd|drbd):/y,
    take(draft, [, kind]) {
      draft.prefixed = true;
      saveText(draft, "script", "script", `block-${kind}`);
    },
  },
  {
    pattern: /(?:tapdisk|tap2?|aio|ioemu|file|phy):/y,
    take(draft) {
      draft.prefixed = true;
    },
  },
  {
    pattern: /[a-z][a-z0-9]*:(?![a-z0-9])/y,
    take(draft, [prefix]) {
      throw draftFail(draft, "unknown deprecated disk prefix", prefix);
    },
  },
  { pattern: /([^=,\0]*),|([^=,\0]+)/y, take: (draft, [, ended, last]) => takePositional(draft, ended ?? last!) },
];

/** Reads one text into the draft. Throws at the first error. */
export function readSpec(draft: DiskDraft, spec: string): void {
  draft.text = spec;
  for (let at = 0; at < spec.length; ) {
    const end = takeToken(draft, spec, at);
    if (end === at) throw draftFail(draft, "bad disk syntax", /[^\n]*/y.exec(spec.slice(at))![0]);
    at = end;
  }
}

function takeToken(draft: DiskDraft, spec: string, at: number): number {
  for (const { pattern, take } of RULES) {
    pattern.lastIndex = at;
    const match = pattern.exec(spec);
    if (!match) continue;
    take(draft, match);
    return at + match[0].length;
  }
  return at;
}

function takePositional(draft: DiskDraft, value: string): void {
  if (draft.target === undefined) saveText(draft, "target", "target", value);
  else if (!draft.prefixed && draft.format === undefined) {
    // `,hdc:cdrom,r`: an empty drive has no format to be told.
    if (draft.target === "" && takeVdevWithType(draft, value)) draft.format = "empty";
    else setFormat(draft, value);
  } else if (draft.vdev === undefined) {
    if (!takeVdevWithType(draft, value)) saveText(draft, "vdev", "vdev", value);
  } else if (!draft.accessPlaced) {
    draft.accessPlaced = true;
    setAccess(draft, value);
  } else throw draftFail(draft, "too many positional parameters", value);
}

/** `hdc:cdrom`; false, and nothing done, without a colon. */
function takeVdevWithType(draft: DiskDraft, value: string): boolean {
  const colon = value.lastIndexOf(":");
  if (colon < 0) return false;
  const type = value.slice(colon + 1);
  saveText(draft, "vdev", "vdev", value.slice(0, colon));
  if (type !== "cdrom" && type !== "disk") throw draftFail(draft, "unknown deprecated type", type);
  draft.cdrom = type === "cdrom";
  return true;
}

function setFormat(draft: DiskDraft, value: string): void {
  draft.format = oneOf(draft, FORMATS, "format", value, { name: "format", old: draft.format });
  draft.formatNamed ||= value !== "";
}

/** The last one counts: xl does not say "respecified" of access. */
function setAccess(draft: DiskDraft, value: string): void {
  draft.access = oneOf(draft, ACCESSES, "access", value);
}

/** Saying the same again is no change. */
function oneOf<T extends string>(
  draft: DiskDraft,
  values: Readonly<Record<string, T>>,
  what: string,
  value: string,
  before?: { name: string; old: T | undefined },
): T {
  if (!Object.hasOwn(values, value)) throw draftFail(draft, `unknown value for ${what}`, value);
  const found = values[value]!;
  if (before?.old !== undefined && before.old !== found) throw draftFail(draft, `${before.name} respecified`, value);
  return found;
}

/** What was said and is not empty stays. */
function saveText(draft: DiskDraft, field: TextField, name: string, value: string): void {
  if (draft[field]) throw draftFail(draft, `${name} respecified`, value);
  draft[field] = value;
}

/** xl's text; without `near` when nothing of the specification is wrong by itself. */
export function draftFail({ source, text: spec }: DiskDraft, message: string, near?: string): DiskError {
  const where = near === undefined ? "" : `: near \`${oneLine(near)}'`;
  return new DiskError(
    "UNSUPPORTED",
    `${source}: config parsing error in disk specification: ${message}${where} in \`${oneLine(spec)}'`,
    { details: { usage: source === COMMAND_LINE, source, spec } },
  );
}

/** An error is one line, whatever it tells about. */
function oneLine(value: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what must not reach a terminal
  return value.replace(/[\x00-\x1f\x7f]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
