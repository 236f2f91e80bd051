/** Feature bits by name: the names that this driver knows, and those that an image brings for the ones it does not. */
import { DiskError } from "../../errors.js";
import type { HeaderExtension } from "./extensions.js";
import { EXTENSION, INCOMPATIBLE, QCOW2_FEATURE_NAME } from "./layout.js";

const KNOWN = Object.values(INCOMPATIBLE).reduce((all, mask) => all | mask, 0n);

/** As QEMU calls them. */
const NAMES: readonly [type: number, bit: number, name: string][] = [
  [0, 0, "dirty bit"],
  [0, 1, "corrupt bit"],
  [0, 2, "external data file"],
  [0, 3, "compression type"],
  [0, 4, "extended L2 entries"],
  [1, 0, "lazy refcounts"],
  [2, 0, "bitmaps"],
  [2, 1, "raw external data"],
];

/** The table that new images carry, so that older programs can say what they do not know. */
export function featureNameTable(): Uint8Array {
  return Buffer.concat(
    NAMES.map(([type, bit, name]) => {
      const padded = new Uint8Array(46);
      padded.set(Buffer.from(name));
      return QCOW2_FEATURE_NAME.encode({ type, bit, name: padded });
    }),
  );
}

/** Throws `UNSUPPORTED` with the names of incompatible features that are not known. */
export function checkFeatures(incompatible: bigint, extensions: readonly HeaderExtension[], label: string): void {
  const unknown = incompatible & ~KNOWN;
  if (unknown === 0n) return;
  const names = namesIn(extensions);
  const found: string[] = [];
  for (let bit = 0; bit < 64; bit++)
    if ((unknown >> BigInt(bit)) & 1n) found.push(names.get(bit) ?? `incompatible feature bit ${bit}`);
  throw new DiskError(
    "UNSUPPORTED",
    `Cannot open ${label}: it uses ${found.map((name) => JSON.stringify(name)).join(", ")}, which this version does not know (byte 72)`,
    { details: { features: found } },
  );
}

/** Names of incompatible bits in the image's own table. */
function namesIn(extensions: readonly HeaderExtension[]): Map<number, string> {
  const names = new Map<number, string>();
  const table = extensions.find(({ type }) => type === EXTENSION.featureNames)?.data ?? new Uint8Array(0);
  for (let at = 0; at + QCOW2_FEATURE_NAME.size <= table.length; at += QCOW2_FEATURE_NAME.size) {
    const { type, bit, name } = QCOW2_FEATURE_NAME.decode(table, at);
    const text = Buffer.from(name)
      .toString("latin1")
      .replace(/\0.*$/s, "")
      .replace(/[^\x20-\x7e]/g, "?");
    if (type === 0 && text !== "") names.set(bit, text);
  }
  return names;
}
