/** Raw images: the file's bytes are the disk's bytes. There is no header, so nothing in the file can say what it is. */
import type { ImageFormat } from "../format.js";

export const raw: ImageFormat = {
  name: "raw",
  extensions: ["dsk", "img", "raw"],
  hasMagic: () => false,
  open: async (file) => file,
  create: async (file, size, options) => (await import("./create.js")).createRaw(file, size, options),
};
