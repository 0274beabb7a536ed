/** The built-in reporters, in the order in which help lists them. */
import { csvReporter } from './csv.ts';
import { githubReporter } from './github.ts';
import { htmlReporter } from './html.ts';
import { jsonReporter } from './json.ts';
import { junitReporter } from './junit.ts';
import { markdownReporter } from './markdown.ts';
import type { Reporter } from './reporter.ts';
import { tableReporter } from './table.ts';

export const REPORTERS: readonly Reporter[] = [tableReporter, markdownReporter, htmlReporter, csvReporter, jsonReporter, junitReporter, githubReporter];
