// A job that runs: its state, its curves and its log are kept up to date.
import { follow } from "./live.js";

follow(document.getElementById("job"));
