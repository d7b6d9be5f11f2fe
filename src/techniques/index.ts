/** Every technique: an export's name is its registration. */
export {};
