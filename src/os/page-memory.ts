/** Memory as the system hands it out: on whole pages, which is what direct access to files (O_DIRECT) asks for. */

/** Zeros at an address that is a multiple of 4096; pages are taken from the system when they are first used. */
export function pageMemory(size: number): SharedArrayBuffer {
  // V8 maps a buffer that may grow by itself; one of a fixed size comes from malloc, 16 bytes behind the begin of a page.
  return new GrowableBuffer(size, { maxByteLength: size });
}

/** ES2024; in Node since 20. The ES2023 typings lack it. */
const GrowableBuffer = SharedArrayBuffer as unknown as new (
  size: number,
  options: { maxByteLength: number },
) => SharedArrayBuffer;
