/**
 * The names by which a disk is called on the command line:
 *
 *   guest.dsk   guest.dsk#p2   guest.dsk#vg0/root   lvm:vg0/root
 *   nbd://host[:port]/export   nbd+unix:///export?socket=PATH   (with #p2 or #vg0/root as well)
 *   dom:web1/xvda   dom:web1/xvda2   backup:REPO@SNAPSHOT/NAME
 *
 * A file may have # in its name: the longest name of an existing file wins, and #VG/LV is only read after the name of one
 * (a new file in a folder with # in its name is a file). `./nbd:x` is a file.
 */
import { DiskError } from "../errors.js";

export type DiskBase =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "nbd"; readonly uri: string }
  | { readonly kind: "domain"; readonly domain: string; readonly vdev: string }
  | { readonly kind: "volume"; readonly group: string; readonly volume: string }
  | { readonly kind: "backup"; readonly repository: string; readonly snapshot: string; readonly disk: string };

/** What of the base is meant; null: all of it. */
export type DiskPart =
  | { readonly kind: "partition"; readonly number: number }
  | { readonly kind: "volume"; readonly group: string; readonly volume: string };

export interface DiskName {
  /** As it was given. */
  readonly text: string;
  readonly base: DiskBase;
  readonly part: DiskPart | null;
}

/** `exists` tells whether there is a file of a name. Throws `UNSUPPORTED`, as wrong usage, for what is no name of a disk. */
export function parseDiskName(text: string, exists: (path: string) => boolean): DiskName {
  if (text === "")
    throw noName(
      text,
      "it is empty, allowed a file, FILE#pN, FILE#VG/LV, an nbd: URI, dom:DOMAIN/xvdX, lvm:VG/LV or backup:REPO@SNAPSHOT/NAME",
    );
  return /^(nbds?(\+\w+)?:|dom:|lvm:|backup:)/i.test(text) ? parseScheme(text) : parseFile(text, exists);
}

function parseFile(text: string, exists: (path: string) => boolean): DiskName {
  const whole: DiskName = { text, base: { kind: "file", path: text }, part: null };
  if (!text.includes("#") || exists(text)) return whole;
  let possible: DiskName | undefined;
  for (let at = text.lastIndexOf("#"); at > 0; at = text.lastIndexOf("#", at - 1)) {
    const path = text.slice(0, at);
    const part = parsePart(text.slice(at + 1));
    const name: DiskName | undefined = part && { text, base: { kind: "file", path }, part };
    if (name && exists(path)) return name;
    if (!name && exists(path)) throw noPart(text, text.slice(at + 1));
    if (part?.kind === "partition") possible ??= name;
  }
  return possible ?? whole; // opening it will say which file is not there
}

function parseScheme(text: string): DiskName {
  const at = text.lastIndexOf("#");
  const part = at > 0 ? parsePart(text.slice(at + 1)) : null;
  if (part === undefined) throw noPart(text, text.slice(at + 1));
  const base = parseBase(part ? text.slice(0, at) : text);
  if (part && (base.kind === "volume" || base.kind === "backup") && part.kind === "volume")
    throw noName(text, "a volume within a volume is none");
  return { text, base, part };
}

function parseBase(text: string): DiskBase {
  const scheme = text.slice(0, text.indexOf(":")).toLowerCase();
  const rest = text.slice(scheme.length + 1);
  if (scheme.startsWith("nbd")) return { kind: "nbd", uri: text };
  if (scheme === "dom") {
    const [, domain, vdev] = /^([^/]+)\/([a-z]+\d*)$/.exec(rest) ?? [];
    if (!domain || !vdev) throw noName(text, "allowed dom:DOMAIN/xvda, dom:DOMAIN/xvda2");
    return { kind: "domain", domain, vdev };
  }
  if (scheme === "lvm") {
    const volume = parseVolume(rest);
    if (!volume) throw noName(text, "allowed lvm:VG/LV");
    return volume;
  }
  const [, repository, snapshot, disk] = /^(.+)@([^@/]+)\/(.+)$/.exec(rest) ?? [];
  if (!repository || !snapshot || !disk) throw noName(text, "allowed backup:REPO@SNAPSHOT/NAME");
  return { kind: "backup", repository, snapshot, disk };
}

/** Undefined for what is no part. */
function parsePart(text: string): DiskPart | undefined {
  const [, digits] = /^p([1-9]\d{0,2})$/.exec(text) ?? [];
  return digits ? { kind: "partition", number: Number(digits) } : parseVolume(text);
}

/** LVM2 allows these characters in names; the first is no hyphen. */
function parseVolume(text: string): { kind: "volume"; group: string; volume: string } | undefined {
  const [, group, volume] = /^([\w+.][\w+.-]*)\/([\w+.][\w+.-]*)$/.exec(text) ?? [];
  return group && volume ? { kind: "volume", group, volume } : undefined;
}

function noPart(text: string, part: string): DiskError {
  return noName(
    text,
    `${JSON.stringify(`#${part}`)} names no part of a disk, allowed #p1 to #p999 for a partition, #VG/LV for a volume`,
  );
}

function noName(text: string, why: string): DiskError {
  return new DiskError("UNSUPPORTED", `Cannot read disk name ${JSON.stringify(text)}: ${why}`, {
    details: { usage: true, name: text },
  });
}
