/** Virtual hard disks of Virtual PC, Hyper-V, Azure and XenServer: fixed, dynamic and differencing. */
import type { BackedFormat, CheckableFormat } from "../extensions.js";
import { MAX_SIZE } from "./layout.js";
import { FORCE_SIZE, SUBFORMAT } from "./options.js";

export const vhd: CheckableFormat & BackedFormat = {
  name: "vhd",
  aliases: ["vpc"],
  extensions: ["vhd", "vpc"],
  maxSize: MAX_SIZE,
  options: [SUBFORMAT, FORCE_SIZE],
  preallocations: ["off", "metadata", "falloc", "full"],
  hasBacking: true,
  // A fixed one begins with the guest's bytes: only its end says what it is.
  hasMagic: (head) => Buffer.from(head.subarray(0, 8)).toString("latin1") === "conectix",
  open: async (file, context) => (await import("./open.js")).openVhd(file, context),
  create: async (file, size, options) => (await import("./create.js")).createVhd(file, size, options),
  check: async (file, context, options) => (await import("./check.js")).checkVhd(file, context, options),
};
