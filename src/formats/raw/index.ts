/** Raw images: the file's bytes are the disk's bytes. There is no header, so nothing in the file can say what it is. */
import { type ImageFormat, PLAIN_FACTS, withFacts } from "../format.js";

export const raw: ImageFormat = {
  name: "raw",
  aliases: [],
  extensions: ["dsk", "img", "raw"],
  maxSize: Number.MAX_SAFE_INTEGER,
  options: [],
  preallocations: ["off", "falloc", "full"],
  hasMagic: () => false,
  open: async (file) => withFacts(file, () => PLAIN_FACTS),
  create: async (file, size, options) => (await import("./create.js")).createRaw(file, size, options),
};
