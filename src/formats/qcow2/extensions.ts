/** Header extensions: a list of typed byte strings behind the header. What is not known is kept as it is, in its place. */
import { alignUp } from "../../bytes/align.js";
import { DiskError } from "../../errors.js";
import { EXTENSION, QCOW2_EXTENSION } from "./layout.js";

export interface HeaderExtension {
  readonly type: number;
  readonly data: Uint8Array;
}
export interface HeaderOwner {
  readonly extensions: readonly HeaderExtension[];
}

/** The area goes from the header's end to the backing file's name, or to the end of the cluster. */
export function decodeExtensions(
  bytes: Uint8Array,
  start: number,
  version: number,
  backingFileOffset: number,
  label: string,
): HeaderExtension[] {
  const end = backingFileOffset > start ? Math.min(backingFileOffset, bytes.length) : bytes.length;
  const extensions: HeaderExtension[] = [];
  for (let at = start; at + QCOW2_EXTENSION.size <= end; ) {
    const { type, length } = QCOW2_EXTENSION.decode(bytes, at);
    if (type === EXTENSION.end) return extensions;
    const data = at + QCOW2_EXTENSION.size;
    if (length > end - data)
      throw new DiskError(
        "CORRUPT",
        `Cannot open ${label}: header extension 0x${type.toString(16)} is ${length} bytes long, allowed 0..${end - data} (byte ${at + 4})`,
        { details: { byte: at + 4, version } },
      );
    extensions.push({ type, data: bytes.slice(data, data + length) });
    at = data + alignUp(length, 8);
  }
  return extensions;
}

export function encodeExtensions(extensions: readonly HeaderExtension[]): Uint8Array {
  const parts = [...extensions, { type: EXTENSION.end, data: new Uint8Array(0) }].map(({ type, data }) => {
    const bytes = new Uint8Array(QCOW2_EXTENSION.size + alignUp(data.length, 8));
    QCOW2_EXTENSION.encode({ type, length: data.length }, bytes);
    bytes.set(data, QCOW2_EXTENSION.size);
    return bytes;
  });
  return Buffer.concat(parts);
}

/** The extensions with one replaced, added at the end, or, for null, taken away. */
export function withExtension(
  extensions: readonly HeaderExtension[],
  type: number,
  data: Uint8Array | string | null,
): HeaderExtension[] {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  const index = extensions.findIndex((extension) => extension.type === type);
  if (bytes === null) return extensions.filter((extension) => extension.type !== type);
  if (index < 0) return [...extensions, { type, data: bytes }];
  return extensions.map((extension, i) => (i === index ? { type, data: bytes } : extension));
}
