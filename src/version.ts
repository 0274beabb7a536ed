/** The tool's version; a test holds it equal to package.json's. A constant, because the runtime has no file system. */
export const TOOL_VERSION = '0.1.0';
