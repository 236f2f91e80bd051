/** qcow2, versions 2 and 3. QEMU docs/interop/qcow2. Not supported: encryption, which is refused. */
import type { BackedFormat, CheckableFormat, StreamingFormat } from "../extensions.js";
import { PREALLOCATIONS } from "../format.js";
import { QCOW2_OPTIONS } from "./options.js";

const MAGIC = Buffer.from("QFI\xfb", "latin1");

export const qcow2: CheckableFormat & BackedFormat & StreamingFormat = {
  name: "qcow2",
  aliases: [],
  extensions: ["qcow2", "qcow"],
  maxSize: Number.MAX_SAFE_INTEGER,
  options: QCOW2_OPTIONS,
  preallocations: PREALLOCATIONS,
  hasBacking: true,
  hasMagic: (head) => MAGIC.equals(head.subarray(0, MAGIC.length)),
  open: async (file, context) => (await import("./open-device.js")).openDevice(file, context),
  create: async (file, size, options) => (await import("./create.js")).createDisk(file, size, options),
  check: async (file, _context, options) => (await import("./check.js")).checkFile(file, options),
  needsWriter: () => false,
  createWriter: async (file, size, options) => (await import("./create.js")).createWriter(file, size, options),
};
