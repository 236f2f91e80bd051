/** The keys of `-o`, as `qemu-img create -o` has them. */
import type { CreateOptions } from "../format.js";
import {
  choiceOption,
  type FormatOption,
  numberOption,
  powerOfTwoOption,
  switchOption,
  textOption,
} from "../options.js";
import type { Qcow2Options } from "./create.js";
import { COMPRESSION_TYPES } from "./header.js";

const clusterSize = powerOfTwoOption("cluster_size", "bytes allocated together", {
  min: 512,
  max: 2 << 20,
  fallback: 64 << 10,
});
const compat = choiceOption("compat", "version: 0.10 is 2, 1.1 is 3", ["0.10", "1.1", "v2", "v3"], "1.1");
const lazyRefcounts = switchOption("lazy_refcounts", "allow a writer to postpone refcounts");
const refcountBits = numberOption("refcount_bits", "width of a refcount", [1, 2, 4, 8, 16, 32, 64], 16);
const extendedL2 = switchOption("extended_l2", "allocate a 32nd of a cluster at a time");
const compressionType = choiceOption(
  "compression_type",
  "how compressed clusters are packed",
  COMPRESSION_TYPES,
  "zlib",
);
const dataFile = textOption("data_file", "file beside the image that takes the data", "a name without a folder");
const dataFileRaw = switchOption("data_file_raw", "keep the data file valid as a raw image");

export const QCOW2_OPTIONS: readonly FormatOption<unknown>[] = [
  clusterSize,
  compat,
  lazyRefcounts,
  refcountBits,
  extendedL2,
  compressionType,
  dataFile,
  dataFileRaw,
];

export function qcow2Options({ values, backing }: CreateOptions): Qcow2Options {
  return {
    clusterSize: values.get(clusterSize),
    version: ["0.10", "v2"].includes(values.get(compat)) ? 2 : 3,
    lazyRefcounts: values.get(lazyRefcounts),
    refcountBits: values.get(refcountBits),
    extendedL2: values.get(extendedL2),
    compressionType: values.get(compressionType),
    backing: backing && { file: backing.name, format: backing.format },
    dataFile: values.get(dataFile),
    dataFileRaw: values.get(dataFileRaw),
  };
}
