/** Images for tests of formats: made and opened as the commands do it, but in any host file, with a gate that says what was asked. */
import { createHash } from "node:crypto";
import { defineDevice } from "#src/block/device.js";
import type { HostFile } from "#src/block/host-file.js";
import { DiskError } from "#src/errors.js";
import type { CreateOptions, ImageDevice, ImageFormat, OpenContext, OpenGate } from "#src/formats/format.js";
import { NO_OPTIONS } from "#src/formats/options.js";

/** Seconds since 1970 stand still, random bytes come in the same order: an image is the same in every run. */
export function testWorld(seed = "xvdkit"): Pick<OpenContext, "random" | "now"> {
  let count = 0;
  return {
    now: () => Date.UTC(2024, 0, 2, 3, 4, 5),
    random(size) {
      const bytes = new Uint8Array(size);
      for (let at = 0; at < size; at += 32)
        bytes.set(
          createHash("sha256")
            .update(`${seed} ${count++}`)
            .digest()
            .subarray(0, Math.min(32, size - at)),
          at,
        );
      return bytes;
    },
  };
}

/** Refuses everything, as for an image that names nothing. */
export const CLOSED_GATE: OpenGate = {
  openBacking: ({ name }) => Promise.reject(new DiskError("DENIED", `Cannot open the backing file ${name}`)),
  openByIdentity: ({ identity }) => Promise.reject(new DiskError("DENIED", `Cannot open the image ${identity}`)),
  openExtent: ({ name }) => Promise.reject(new DiskError("DENIED", `Cannot open the file ${name}`)),
};

export const openContext = (gate: Partial<OpenGate> = {}): OpenContext => ({
  ...testWorld("open"),
  gate: { ...CLOSED_GATE, ...gate },
});

export const createOptions = (options: Partial<CreateOptions> = {}): CreateOptions => ({
  preallocation: "off",
  values: NO_OPTIONS,
  backing: null,
  createExtent: (name) => Promise.reject(new TypeError(`no place for the file ${name}`)),
  ...testWorld("create"),
  ...options,
});

export interface MemoryFile extends HostFile {
  /** What the file holds now: a view, not a copy. */
  bytes(): Uint8Array;
}

/** A host file in memory. Grows by doubling; closing keeps the contents, so that it can be opened again by `memoryFile(file.bytes())`. */
export function memoryFile(
  contents: Uint8Array | number = 0,
  { writable = true, path = "memory" }: { writable?: boolean; path?: string } = {},
): MemoryFile {
  let size = typeof contents === "number" ? contents : contents.length;
  let store = new Uint8Array(Math.max(size, 4096));
  if (typeof contents !== "number") store.set(contents);
  const device = defineDevice({
    label: `"${path}"`,
    get size() {
      return size;
    },
    writable,
    async read(offset, into) {
      into.set(store.subarray(offset, offset + into.length));
    },
    async write(offset, data) {
      store.set(data, offset);
    },
    async zero(offset, length) {
      store.fill(0, offset, offset + length);
    },
  });
  return Object.assign(device, {
    path,
    resizable: writable,
    bytes: () => store.subarray(0, size),
    async allocate() {},
    async resize(to: number) {
      if (!writable) throw new DiskError("READ_ONLY", `Cannot resize "${path}": it is read-only`);
      if (to > store.length) {
        const larger = new Uint8Array(Math.max(to, 2 * store.length));
        larger.set(store.subarray(0, size));
        store = larger;
      }
      if (to < size) store.fill(0, to, size);
      size = to;
    },
  });
}

/** A new image in memory, closed. */
export async function imageBytes(
  format: ImageFormat,
  size: number,
  options: Partial<CreateOptions> = {},
): Promise<Uint8Array> {
  const file = memoryFile();
  await format.create(file, size, createOptions(options));
  return file.bytes();
}

/** An image in memory, open. `file.bytes()` is what a crash now would leave. */
export async function openImageBytes(
  format: ImageFormat,
  bytes: Uint8Array,
  { writable = true, gate = {} }: { writable?: boolean; gate?: Partial<OpenGate> } = {},
): Promise<{ image: ImageDevice; file: MemoryFile }> {
  const file = memoryFile(bytes, { writable });
  return { image: await format.open(file, openContext(gate)), file };
}

/** A change of a host file that was made. */
export type FileChange =
  | { readonly kind: "write"; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: "zero"; readonly offset: number; readonly length: number }
  | { readonly kind: "resize"; readonly size: number }
  | { readonly kind: "flush" };

export interface RecordedFile extends HostFile {
  /** In the order in which they were asked for. */
  readonly changes: readonly FileChange[];
}

/** Passes everything on and keeps every change. */
export function recordChanges(file: HostFile): RecordedFile {
  const changes: FileChange[] = [];
  const device = defineDevice({
    label: file.label,
    get size() {
      return file.size;
    },
    writable: file.writable,
    read: (offset, into) => file.read(offset, into),
    async write(offset, data) {
      changes.push({ kind: "write", offset, data: data.slice() });
      await file.write(offset, data);
    },
    async zero(offset, length) {
      changes.push({ kind: "zero", offset, length });
      await file.zero(offset, length);
    },
    // A hole that is punched has to read as zeros in the replay too.
    async discard(offset, length) {
      changes.push({ kind: "zero", offset, length });
      await file.zero(offset, length);
    },
    extents: (offset, length) => file.extents(offset, length),
    async flush() {
      changes.push({ kind: "flush" });
      await file.flush();
    },
    close: () => file.close(),
  });
  return Object.assign(device, {
    changes,
    path: file.path,
    resizable: file.resizable,
    allocate: (offset: number, length: number) => file.allocate(offset, length),
    async resize(size: number) {
      changes.push({ kind: "resize", size });
      await file.resize(size);
    },
  });
}

/**
 * Every state that a cut could have left: `before`, then after each change in order. Writes are cut at sectors of 512
 * bytes: a change of several sectors also leaves its first half.
 */
export async function* cutStates(
  before: Uint8Array,
  changes: readonly FileChange[],
): AsyncGenerator<{ readonly after: number; readonly bytes: Uint8Array }> {
  const file = memoryFile(before);
  yield { after: 0, bytes: file.bytes().slice() };
  for (const [index, change] of changes.entries()) {
    if (change.kind === "flush") continue;
    if (change.kind === "write" && change.data.length > 512) {
      const half = Math.max(512, (change.data.length >> 1) & ~511);
      await file.write(change.offset, change.data.subarray(0, half));
      yield { after: index, bytes: file.bytes().slice() };
    }
    await applyChange(file, change);
    yield { after: index + 1, bytes: file.bytes().slice() };
  }
}

async function applyChange(file: HostFile, change: FileChange): Promise<void> {
  if (change.kind === "write") await file.write(change.offset, change.data);
  if (change.kind === "zero") await file.zero(change.offset, change.length);
  if (change.kind === "resize") await file.resize(change.size);
}

/** The changes up to the last flush that came before change number `index`: what must have survived a cut there. */
export function flushedBefore(changes: readonly FileChange[], index: number): number {
  for (let at = index - 1; at >= 0; at--) if (changes[at]!.kind === "flush") return at;
  return 0;
}
