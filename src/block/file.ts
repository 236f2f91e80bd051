/** A file or block device of the host as a device: raw bytes, holes told apart from data, locked against other processes. */
import { DiskError } from "../errors.js";
import { DirectAccess, type DirectOptions } from "../os/direct.js";
import { type OpenFile, openFile } from "../os/file.js";
import { type FileLock, lockFile } from "../os/lock.js";
import { defineDevice, type Extent } from "./device.js";
import { cachedBytes, DirectBytes, type FileBytes } from "./direct.js";
import { withFileRange } from "./file-range.js";
import type { HostFile } from "./host-file.js";

export interface FileDevice extends HostFile {
  readonly file: OpenFile;
}

export interface FileDeviceOptions {
  readonly writable?: boolean;
  /** Read without a lock, also what somebody else writes. Not with `writable`. */
  readonly forceShare?: boolean;
  /** Only a part of the file is used: share it with users of other parts. */
  readonly part?: boolean;
  /** Bytes to show instead of the file's own size; what lies behind the file's end reads as zeros. */
  readonly sizeOverride?: number;
  readonly label?: string;
  /** False: plain Node only, as on systems without native calls. */
  readonly native?: boolean;
  /** Read and write past the page cache. `UNSUPPORTED` where the file system cannot. */
  readonly direct?: boolean | DirectOptions;
}

/** Opens and locks; throws `DENIED` naming the holder when somebody else has it. Closing gives the lock back. */
export async function openFileDevice(path: string, options: FileDeviceOptions = {}): Promise<FileDevice> {
  const { writable = false, forceShare = false, native = true, direct = false } = options;
  if (writable && forceShare) throw new TypeError(`Cannot open "${path}" for writing and share it by force`);
  const file = await openFile(path, { writable, native });
  try {
    const mode = writable ? "write" : "read";
    const lock = forceShare ? null : lockFile(file, options.part ? `part-${mode}` : mode);
    const access = direct === false ? undefined : DirectAccess.open(file, direct === true ? {} : direct);
    return fileDevice(file, { ...options, lock, access });
  } catch (error) {
    await file.close();
    throw error;
  }
}

export interface FileDeviceOfOptions extends Pick<FileDeviceOptions, "sizeOverride" | "label"> {
  /** Released when the device is closed. */
  readonly lock?: FileLock | null;
  /** Default true: closing the device closes the file. */
  readonly own?: boolean;
  /** The way past the page cache, if that is the one to take; closed with the device. */
  readonly access?: DirectAccess | undefined;
}

/** An open file as a device, without locking it (a staged file, which nobody else can see). */
export function fileDevice(file: OpenFile, options: FileDeviceOfOptions = {}): FileDevice {
  const { sizeOverride, lock, own = true, access } = options;
  const direct = access && new DirectBytes(file, access);
  const bytes = direct ?? cachedBytes(file);
  let closed = false;

  const device = defineDevice({
    label: options.label ?? `"${file.path}"`,
    get size() {
      return sizeOverride ?? file.size;
    },
    writable: file.writable,
    read: (offset, into) =>
      offset + into.length <= file.size ? bytes.read(offset, into) : readPastEnd(bytes, file.size, offset, into),
    write: (offset, data) => bytes.write(offset, data),
    zero: (offset, length) => bytes.zero(offset, length),
    discard: (offset, length) => bytes.discard(offset, length),
    extents: (offset, length) => fileExtents(file, offset, length),
    flush: () => (file.writable ? file.dataSync() : Promise.resolve()),
    async close() {
      closed = true;
      await direct?.close();
      lock?.release();
      if (own) await file.close();
    },
  });

  const extension = {
    path: file.path,
    file,
    resizable: !file.isBlockDevice && file.writable && sizeOverride === undefined,
    allocate: (offset: number, length: number) => file.allocate(offset, length),
    async resize(size: number) {
      if (closed) throw new TypeError(`Cannot resize ${device.label}: it is closed`);
      if (sizeOverride !== undefined)
        throw new DiskError("UNSUPPORTED", `Cannot resize ${device.label}: its size is fixed`);
      await resizeFile(file, size, device.label);
    },
  };
  return withFileRange(Object.assign(device, extension), async (offset, length) => ({
    file,
    offset,
    length,
    exclusive: true,
  }));
}

async function resizeFile(file: OpenFile, size: number, label: string): Promise<void> {
  if (!file.writable) throw new DiskError("READ_ONLY", `Cannot resize ${label}: it is read-only`);
  if (!Number.isSafeInteger(size) || size < 0) throw new RangeError(`Cannot resize ${label}: ${size} is no size`);
  await file.resize(size);
}

/** What lies behind the file's end, within a size that is given, reads as zeros. */
async function readPastEnd(bytes: FileBytes, size: number, offset: number, into: Uint8Array): Promise<void> {
  const inside = Math.max(0, Math.min(into.length, size - offset));
  if (inside > 0) await bytes.read(offset, into.subarray(0, inside));
  into.fill(0, inside);
}

/** Asks for one run at a time: the map of a sparse file of any size costs what is looked at. */
async function* fileExtents(file: OpenFile, offset: number, length: number): AsyncGenerator<Extent> {
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const run = at < file.size ? file.runAt(at, Math.min(end, file.size)) : { data: false, end };
    yield {
      offset: at,
      length: run.end - at,
      data: run.data,
      zero: !run.data,
      present: true,
      depth: 0,
      hostOffset: at,
    };
    at = run.end;
  }
}
