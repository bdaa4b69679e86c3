def write(folder, found): pass
