/**
 * One disk as xl's users write it: xl-disk-configuration(5) of Xen 4.19, deprecated forms included.
 * `parseDiskSpec` knows the language alone; what of it this host can do is `vbdOfDisk`'s business (vbd.ts).
 */
import { DiskError } from "../../errors.js";
import { COMMAND_LINE, type DiskDraft, draftFail, emptyDraft, readSpec } from "./disk-syntax.js";

export { COMMAND_LINE } from "./disk-syntax.js";

export type XlDiskFormat = "raw" | "qcow" | "qcow2" | "vhd" | "qed" | "empty";
export type XlBackendType = "phy" | "qdisk" | "tap" | "standalone";

export interface XlDisk {
  /** As it was given; "" for a drive without a disk. */
  readonly target: string;
  /** `raw` when none was given; `empty` also for a cdrom without a target. */
  readonly format: XlDiskFormat;
  /** Whether the user named the format: the default must not overrule what a file's name says. */
  readonly formatGiven: boolean;
  /** As it was given, not judged. */
  readonly vdev: string;
  /** A cdrom is always `ro`. */
  readonly access: "rw" | "ro";
  /** A cdrom is also removable. */
  readonly cdrom: boolean;
  /** Null where nothing was said, here and below: the default is libxl's. */
  readonly backend: string | null;
  readonly backendType: XlBackendType | null;
  readonly script: string | null;
  readonly specification: "xen" | "virtio" | null;
  readonly discard: boolean | null;
  readonly trusted: boolean | null;
  readonly grantUsage: boolean | null;
  readonly directIoSafe: boolean;
  readonly colo: boolean;
  /** The specification as one text, for messages. */
  readonly spec: string;
}

/** Texts that make up one disk, and bytes of each: more is no command line. */
const MAX_TEXTS = 64;
const MAX_LENGTH = 16 << 10;

/**
 * Several texts make up one disk, as `xl block-attach` joins its arguments.
 * `source` names the file, or is `COMMAND_LINE`. Throws `UNSUPPORTED` with xl's own text at the first error.
 */
export function parseDiskSpec(texts: readonly string[], source: string): XlDisk {
  const draft = emptyDraft(source);
  if (texts.length > MAX_TEXTS) throw tooLarge(source, `${texts.length} texts`, `${MAX_TEXTS}`);
  for (const text of texts) {
    if (text.length > MAX_LENGTH) throw tooLarge(source, `${text.length} characters`, `${MAX_LENGTH}`);
    readSpec(draft, text);
  }
  return finish(draft, texts);
}

function finish(draft: DiskDraft, texts: readonly string[]): XlDisk {
  const { vdev, cdrom } = draft;
  if (vdev === undefined) throw draftFail(draft, "no vdev specified");
  if (draft.target === undefined && !cdrom) throw draftFail(draft, "no target specified (and device not removable)");
  const target = draft.target ?? "";
  return {
    target,
    format: cdrom && target === "" ? "empty" : (draft.format ?? "raw"),
    formatGiven: draft.formatNamed,
    vdev,
    access: cdrom ? "ro" : draft.access,
    cdrom,
    backend: draft.backend || null,
    backendType: draft.backendType ?? null,
    script: draft.script || null,
    specification: draft.specification ?? null,
    discard: draft.discard ?? null,
    trusted: draft.trusted ?? null,
    grantUsage: draft.grantUsage ?? null,
    directIoSafe: draft.directIoSafe,
    colo: draft.colo,
    spec: texts.join(","),
  };
}

function tooLarge(source: string, found: string, allowed: string): DiskError {
  return new DiskError("UNSUPPORTED", `${source}: cannot read the disk specification: ${found}, allowed ${allowed}`, {
    details: { usage: source === COMMAND_LINE },
  });
}
