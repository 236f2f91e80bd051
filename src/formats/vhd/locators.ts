/** Where a differencing VHD says that the image beneath is: eight locators, each of some system's form, and a plain name. */
import { posix } from "node:path";
import type { HostFile } from "../../block/host-file.js";
import { LOCATORS, SECTOR, VHD_LOCATOR, type VhdHeader, type VhdLocator } from "./layout.js";

/** Of one path; longer ones are no paths. */
const MAX_LENGTH = 16 << 10;

/** The most useful first: relative ones hold when the chain was moved. */
const PLATFORMS = ["W2ru", "MacX", "W2ku"] as const;

/** A path in this system's form, relative to the image's folder unless absolute; null when nothing says one. */
export async function parentPath(file: HostFile, header: VhdHeader): Promise<string | null> {
  const locators = readLocators(header);
  for (const platform of PLATFORMS) {
    const locator = locators.find((one) => one.platform === platform);
    const path = locator && (await readLocator(file, locator));
    if (path) return path;
  }
  return decodeName(header.parentName);
}

export function readLocators({ locators }: VhdHeader): VhdLocator[] {
  return Array.from({ length: LOCATORS }, (_, i) => VHD_LOCATOR.decode(locators, i * VHD_LOCATOR.size));
}

async function readLocator(file: HostFile, { platform, offset, length }: VhdLocator): Promise<string | null> {
  if (length === 0 || length > MAX_LENGTH || offset + length > file.size) return null;
  const bytes = Buffer.alloc(length);
  await file.read(offset, bytes);
  return platform === "MacX" ? fromUrl(bytes.toString("utf8")) : fromWindows(bytes.toString("utf16le"));
}

/** `file://./base.vhd` is relative, as XenServer writes it. */
function fromUrl(text: string): string | null {
  const path = text.replace(/\0.*$/s, "").replace(/^file:\/\//, "");
  try {
    return path === "" ? null : decodeURI(path);
  } catch {
    return path;
  }
}

/** Another system's drive means nothing here: of such a path the name is left. */
function fromWindows(text: string): string | null {
  const path = text.replace(/\0.*$/s, "").replaceAll("\\", "/");
  if (path === "") return null;
  return /^[a-z]:|^\/\//i.test(path) ? posix.basename(path) : path;
}

export function decodeName(field: Uint8Array): string | null {
  const name = Buffer.from(field).swap16().toString("utf16le").replace(/\0.*$/s, "");
  return name === "" ? null : name;
}

export function encodeName(name: string): Uint8Array {
  const field = Buffer.alloc(512);
  Buffer.from(name.slice(0, 255), "utf16le").copy(field);
  return field.swap16();
}

/** What is written for an image at `path`: the locators' bytes for the header, and what they point to from `offset` on, in sectors. */
export function makeLocators(path: string, offset: number): { locators: Uint8Array; data: Uint8Array } {
  const isAbsolute = path.startsWith("/");
  const windows = path.replaceAll("/", "\\");
  const relative = windows.startsWith(".") ? windows : `.\\${windows}`;
  const url = encodeURI(isAbsolute ? path : path.startsWith(".") ? path : `./${path}`);
  const contents = [
    { platform: isAbsolute ? "W2ku" : "W2ru", bytes: Buffer.from(isAbsolute ? windows : relative, "utf16le") },
    { platform: "MacX", bytes: Buffer.from(`file://${url}`, "utf8") },
  ];
  const locators = new Uint8Array(LOCATORS * VHD_LOCATOR.size);
  const pieces: Buffer[] = [];
  let at = offset;
  for (const [i, { platform, bytes }] of contents.entries()) {
    const sectors = Math.ceil(bytes.length / SECTOR);
    const entry = { platform, space: sectors, length: bytes.length, reserved: 0, offset: at };
    VHD_LOCATOR.encode(entry, locators, i * VHD_LOCATOR.size);
    pieces.push(Buffer.concat([bytes], sectors * SECTOR));
    at += sectors * SECTOR;
  }
  return { locators, data: Buffer.concat(pieces) };
}
