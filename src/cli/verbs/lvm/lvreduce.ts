/** `xvd lvreduce`: a volume made smaller. */
import type { Command } from "commander";
import { defineResize } from "./resize.js";

export default (command: Command): void => defineResize(command, "reduce");
