/** The version of pith, equal to package.json's (a test holds that): written into every Run. */
export const version = "0.1.0";
