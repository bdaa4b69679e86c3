def text(found): return "" 
