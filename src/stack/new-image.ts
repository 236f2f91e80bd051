/**
 * A new image of any format, from its options to the moment in which it appears under its name. What it is filled with
 * comes from the caller: nothing (`create`), a disk (`convert`, `clone`), or a backing image alone.
 */
import { randomBytes } from "node:crypto";
import type { FileDevice } from "../block/file.js";
import { alignUp } from "../bytes/align.js";
import { DiskError } from "../errors.js";
import { isBackedFormat } from "../formats/extensions.js";
import type {
  CreateOptions,
  ImageDevice,
  ImageFormat,
  NewBacking,
  OpenContext,
  Preallocation,
} from "../formats/format.js";
import { choiceOption, type OptionValues, parseOptions } from "../formats/options.js";
import { chooseFormat } from "../formats/registry.js";
import { refuseCutMove } from "./cut-move.js";
import { openContext, pathOf } from "./open-gate.js";
import { openImage } from "./open-image.js";
import { type StagedImage, stageImage } from "./staged-image.js";

export interface NewImageRequest {
  /** Default: by the name. */
  readonly format?: string;
  /** Texts of `-o`. */
  readonly options?: ReadonlyMap<string, string>;
  readonly preallocation?: string;
  /** As it will stand in the image: relative to the image's folder. */
  readonly backing?: { readonly name: string; readonly format?: string };
  /** What the backing image names itself may be opened: its contents are needed. Default: only its size is. */
  readonly allowBacking?: boolean;
  readonly readBacking?: boolean;
  readonly forceShare?: boolean;
  readonly force?: boolean;
  readonly durable?: boolean;
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal;
}

/** An image that nobody sees yet. */
export interface NewImage {
  readonly path: string;
  readonly format: ImageFormat;
  /** Empty at first; `format.create` or a writer comes next. */
  readonly file: FileDevice;
  readonly options: CreateOptions;
  readonly backing: NewBacking | null;
  /** The image after `format.create`, for writing. Closing it leaves the file open. */
  open(): Promise<ImageDevice>;
}

export interface MadeImage<T> {
  readonly result: T;
  /** Bytes stored. */
  readonly stored: number;
}

/** Fills a new image and gives it its name; with `dryRun` it goes away instead. Nothing is left after a failure. */
export async function makeImage<T>(
  path: string,
  request: NewImageRequest,
  fill: (image: NewImage) => Promise<T>,
): Promise<MadeImage<T>> {
  const { format } = chooseFormat(path, request.format);
  const { values, preallocation } = readOptions(path, format, request);
  refuseBacking(path, format, request);
  const { force = false, durable = true, dryRun = false } = request;
  if (force) refuseCutMove(path, `replace ${JSON.stringify(path)}`);
  const staged = await stageImage(path, { force, durable });
  const file = staged.openFile();
  let backing: NewBacking | null = null;
  try {
    backing = await openBacking(file, request);
    const options: CreateOptions = {
      values,
      preallocation: dryRun ? "off" : preallocation,
      backing,
      random: randomBytes,
      now: Date.now,
      createExtent: (name) => staged.createExtent(name),
      ...(request.signal ? { signal: request.signal } : {}),
    };
    const context = newImageContext(file, backing, staged, request);
    const open = () => format.open(staged.openFile(), context);
    const result = await fill({ path, format, file, options, backing, open });
    request.signal?.throwIfAborted();
    const stored = staged.allocatedSize();
    await (dryRun ? staged.abort() : staged.commit());
    return { result, stored };
  } catch (error) {
    await staged.abort();
    throw error;
  } finally {
    await backing?.device.close();
  }
}

/** The backing image was named by the user, extents were made a moment ago: both may be opened. */
function newImageContext(
  file: FileDevice,
  backing: NewBacking | null,
  staged: StagedImage,
  request: NewImageRequest,
): OpenContext {
  const named = backing ? [pathOf("backing file", backing.name, file)] : [];
  const context = openContext({ ...request, named }, file.file.identity);
  return {
    ...context,
    gate: {
      openBacking: (reference) => context.gate.openBacking(reference),
      openByIdentity: (reference) => context.gate.openByIdentity(reference),
      async openExtent(reference) {
        return staged.openExtent(reference.name) ?? context.gate.openExtent(reference);
      },
    },
  };
}

async function openBacking(file: FileDevice, request: NewImageRequest): Promise<NewBacking | null> {
  if (!request.backing) return null;
  const { name } = request.backing;
  const path = pathOf("backing file", name, file);
  const choice = chooseFormat(path, request.backing.format);
  if (choice.unsure)
    throw new DiskError(
      "UNSUPPORTED",
      `Cannot create ${file.label}: the name of its backing file ${JSON.stringify(name)} does not say its format, allowed with -F FORMAT`,
      { details: { usage: true } },
    );
  const { image } = await openImage(path, {
    format: choice.format.name,
    sealed: !request.readBacking,
    ...(request.allowBacking ? { allowBacking: true } : {}),
    ...(request.forceShare ? { forceShare: true } : {}),
  });
  return { name, format: choice.format.name, device: image! };
}

function refuseBacking(path: string, format: ImageFormat, { backing }: NewImageRequest): void {
  if (backing && !isBackedFormat(format))
    throw new DiskError("UNSUPPORTED", `Cannot create "${path}": ${format.name} images have no backing file`, {
      details: { usage: true },
    });
}

/** `-o` and `--preallocation`, which is one of its keys. */
function readOptions(
  path: string,
  format: ImageFormat,
  { options = new Map(), preallocation: asked }: NewImageRequest,
): { values: OptionValues; preallocation: Preallocation } {
  const given = new Map(options);
  if (asked !== undefined) given.set("preallocation", asked);
  const preallocation = choiceOption("preallocation", "what is stored at once", format.preallocations, "off");
  const values = parseOptions(`${format.name} "${path}"`, [...format.options, preallocation], given);
  return { values, preallocation: values.get(preallocation) };
}

/** Sizes of disks are whole sectors. */
export const diskSize = (size: number) => alignUp(size, 512);
