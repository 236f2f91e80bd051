/** `xvd lvresize`: a volume made larger or smaller. */
import type { Command } from "commander";
import { defineResize } from "./resize.js";

export default (command: Command): void => defineResize(command, "resize");
