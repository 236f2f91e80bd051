/** Every format of the registry keeps the contract. */
import { FORMATS } from "#src/formats/registry.js";
import { describeImageFormat } from "./image-format.js";

for (const format of FORMATS) describeImageFormat(format);
