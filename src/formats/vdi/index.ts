/** VirtualBox disk images: dynamic, static and differencing. The smallest of the formats with a table, a model for new ones. */
import type { BackedFormat, CheckableFormat } from "../extensions.js";
import { DEFAULT_BLOCK_SIZE, MAX_BLOCKS } from "./layout.js";
import { STATIC } from "./options.js";

/** `0xbeda107f`, little-endian, at byte 64. */
const SIGNATURE = [0x7f, 0x10, 0xda, 0xbe];

export const vdi: CheckableFormat & BackedFormat = {
  name: "vdi",
  aliases: [],
  extensions: ["vdi"],
  maxSize: MAX_BLOCKS * DEFAULT_BLOCK_SIZE,
  options: [STATIC],
  preallocations: ["off", "metadata", "falloc", "full"],
  hasBacking: true,
  hasMagic: (head) => SIGNATURE.every((byte, i) => head[64 + i] === byte),
  open: async (file, context) => (await import("./open.js")).openVdi(file, context),
  create: async (file, size, options) => (await import("./create.js")).createVdi(file, size, options),
  check: async (file, context, options) => (await import("./check.js")).checkVdi(file, context, options),
};
