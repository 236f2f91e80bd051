/**
 * The open gate: the only way to files that an image names inside itself. A guest, or whoever sent an image, can write any
 * name there, so nothing is opened that the user has not named himself or allowed with --allow-backing.
 */
import { randomBytes } from "node:crypto";
import { dirname, isAbsolute, join } from "node:path";
import { type BlockDevice, defineDevice } from "../block/device.js";
import { openFileDevice } from "../block/file.js";
import type { HostFile } from "../block/host-file.js";
import { DiskError } from "../errors.js";
import {
  type BackingReference,
  type ImageDevice,
  type ImageFormat,
  type OpenContext,
  type OpenGate,
  PLAIN_FACTS,
  withFacts,
} from "../formats/format.js";
import { chooseFormat } from "../formats/registry.js";
import { canonicalPath, namesIn } from "../os/paths.js";

export interface GateRules {
  /** `--allow-backing`. */
  readonly allowBacking?: boolean;
  /** Files that the user named himself, in the same command. */
  readonly named?: readonly string[];
  /** Read although somebody else writes. */
  readonly forceShare?: boolean;
}

/** Images in one chain. Backup tools make chains of hundreds; a file that names itself makes endless ones. */
const MAX_DEPTH = 256;

/** What images are opened with. `identity` is of the file that is opened: a chain that leads back to it is refused. */
export function openContext(rules: GateRules, identity: string): OpenContext {
  return contextWith(new Gate(rules, [identity]));
}

/**
 * For looks at an image alone: what it names is not opened. Its backing image is one that cannot be read, with facts of its
 * own that are not known.
 */
export function sealedContext(): OpenContext {
  return contextWith({
    openBacking: async (reference) => sealed(reference),
    openByIdentity: async ({ identity, from }) => ({
      image: sealed({ name: identity, format: null, from }),
      name: identity,
    }),
    async openExtent({ name, from }) {
      throw refusedByGate("file", name, from);
    },
  });
}

function contextWith(gate: OpenGate): OpenContext {
  return { gate, random: randomBytes, now: Date.now };
}

class Gate implements OpenGate {
  readonly #rules: GateRules;
  /** Identities of the files that are open above. */
  readonly #chain: readonly string[];

  constructor(rules: GateRules, chain: readonly string[]) {
    this.#rules = rules;
    this.#chain = chain;
  }

  async openBacking({ name, format, from }: BackingReference & { from: HostFile }): Promise<ImageDevice> {
    const path = allowedPath("backing file", name, from, this.#rules);
    if (this.#chain.length >= MAX_DEPTH)
      throw new DiskError(
        "CORRUPT",
        `Cannot open ${from.label}: its chain of backing files is longer than ${MAX_DEPTH}`,
      );
    const choice = chooseFormat(path, format ?? undefined);
    if (choice.unsure) throw unknownFormat(name, from);
    const file = await openFileDevice(path, { forceShare: this.#rules.forceShare ?? false });
    try {
      const { identity } = file.file;
      if (this.#chain.includes(identity))
        throw new DiskError("CORRUPT", `Cannot open ${from.label}: its chain of backing files leads back to "${path}"`);
      return await choice.format.open(file, contextWith(new Gate(this.#rules, [...this.#chain, identity])));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  async openByIdentity({
    identity,
    format,
    from,
  }: {
    identity: string;
    format: string;
    from: HostFile;
  }): Promise<{ image: ImageDevice; name: string }> {
    const name = await findByIdentity(identity, format, from, this.#rules);
    return { image: await this.openBacking({ name, format, from }), name };
  }

  async openExtent({ name, from, writable }: { name: string; from: HostFile; writable: boolean }): Promise<HostFile> {
    const path = allowedPath("file", name, from, this.#rules);
    const file = await openFileDevice(path, { writable, forceShare: !writable && (this.#rules.forceShare ?? false) });
    if (!this.#chain.includes(file.file.identity)) return file;
    await file.close();
    throw new DiskError("CORRUPT", `Cannot open ${from.label}: it names itself as one of its files`);
  }
}

/** The path of a file that an image names, when it may be opened. */
function allowedPath(
  what: string,
  name: string,
  from: HostFile,
  { allowBacking = false, named = [] }: GateRules,
): string {
  const path = pathOf(what, name, from);
  const isNamed = () => named.some((one) => canonicalPath(one) === canonicalPath(path));
  if (!allowBacking && !isNamed()) throw refusedByGate(what, name, from);
  return path;
}

/** The same for those who open a backing image themselves. */
export const gatePath = (name: string, from: HostFile, rules: GateRules) =>
  allowedPath("backing file", name, from, rules);

/** Where the image with an identity is: among the files that the user named, and when it is allowed beside the image. */
export async function findByIdentity(
  identity: string,
  format: string,
  from: HostFile,
  { allowBacking = false, named = [] }: GateRules,
): Promise<string> {
  for (const path of [...named, ...(allowBacking ? neighbours(from.path) : [])])
    if (await isImage(path, format, identity)) return canonicalPath(path);
  if (!allowBacking) throw refusedByGate("backing image", identity, from);
  throw new DiskError(
    "NOT_FOUND",
    `Cannot open ${from.label}: no ${format} image beside it or in the folder above has the identity ${identity}`,
    { details: { path: from.path, identity } },
  );
}

/** Files in an image's folder and in the one above it: snapshots of a machine often lie in a folder of their own. */
function neighbours(path: string): string[] {
  const folder = dirname(canonicalPath(path));
  return [folder, dirname(folder)].flatMap((each) => namesIn(each).map((name) => join(each, name)));
}

/** Whether a file is the image that is looked for. Anything else that it may be is no error. */
async function isImage(path: string, formatName: string, identity: string): Promise<boolean> {
  try {
    const { format } = chooseFormat(path);
    if (format.name !== formatName) return false;
    const image = await openImageFile(path, format);
    const same = image.image.identity === identity;
    await image.close();
    return same;
  } catch (error) {
    if (error instanceof DiskError) return false;
    throw error;
  }
}

async function openImageFile(path: string, format: ImageFormat): Promise<ImageDevice> {
  const file = await openFileDevice(path, { forceShare: true });
  return format.open(file, sealedContext()).catch(async (error) => {
    await file.close();
    throw error;
  });
}

/** Relative names start at the folder of the image that holds them. */
export function pathOf(what: string, name: string, from: Pick<HostFile, "path" | "label">): string {
  const plain = name.replace(/^file:(?:\/\/(?=\/))?/, "");
  if (/^(json:|[a-z][a-z0-9+.-]*:)/i.test(plain))
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot open ${from.label}: its ${what} is ${JSON.stringify(name)}, allowed are files by their path`,
    );
  return isAbsolute(plain) ? plain : join(dirname(from.path), plain);
}

function refusedByGate(what: string, name: string, from: HostFile): DiskError {
  return new DiskError(
    "DENIED",
    `Cannot open ${from.label}: it names a ${what}, ${JSON.stringify(name)}, allowed with --allow-backing`,
    { details: { path: from.path, names: name } },
  );
}

function unknownFormat(name: string, from: HostFile): DiskError {
  return new DiskError(
    "DENIED",
    `Cannot open ${from.label}: it does not record the format of its backing file ${JSON.stringify(name)}, allowed after 'xvd rebase -u -b ${name} -F FORMAT'`,
    { details: { path: from.path, names: name } },
  );
}

/** Stands where a backing image would be. As large as can be, so that nothing of an overlay lies behind its end. */
function sealed({ name, from }: BackingReference & { from: HostFile }): ImageDevice {
  const refuse = () => Promise.reject(refusedByGate("backing file", name, from));
  const device: BlockDevice = defineDevice({
    label: `the backing file ${JSON.stringify(name)} of ${from.label}`,
    size: Number.MAX_SAFE_INTEGER,
    read: refuse,
  });
  return withFacts(device, () => PLAIN_FACTS);
}
